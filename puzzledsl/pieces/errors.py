"""Diagnostics of the block library (E13xx), and of making its pieces."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoCalibration(Diagnostic, code="E0722", template="there are no calibration tokens"):
    """The calibration data contains no tokens."""

    help_template = "initialisers read activations; give the data more text or a shorter context"


class PieceMissing(Diagnostic, code="E1301", template="the block library `{root}` has no piece `{id}`"):
    """A piece that the library does not contain."""

    help_template = "run `pzl bld` again: it makes the missing pieces and keeps the others"


class PieceDamaged(Diagnostic, code="E1302", template="the piece `{file}` is damaged: {reason}"):
    """A piece's file that does not match its index line."""

    help_template = "run `pzl bld` again: it makes the damaged pieces anew and keeps the others"


class IndexDamaged(Diagnostic, code="E1303", template="line {line} of `{file}` is damaged: {reason}"):
    """A line of the index, other than the last, that is not a valid piece."""

    help_template = "delete that line and run `pzl bld` again: it makes what is missing and keeps the others"


class NoTrainingText(Diagnostic, code="E1401", template="bld `{name}` names no data to train on"):
    """BLD without data."""

    help_template = 'declare `data mix = text("corpus/*.txt")` and add `data = mix` to the bld'


class NoScratchSpace(Diagnostic, code="E1402"):
    """Activations do not fit on the disk."""

    template = "bld `{name}` needs {needed} of disk for activations in `{work}`; {free} is free"
    help_template = "free some space, build elsewhere with `-o`, or lower `tokens`"


class NoRoomForPiece(Diagnostic, code="E1403"):
    """One piece, trained alone and one sequence at a time, exceeds the memory of the device."""

    template = "bld `{name}` runs out of memory with a single piece of layer {layer}: {reason}"
    help_template = (
        "lower `context`, leave the largest alternatives out of the space, or use a device with more memory"
    )


class LossNotFinite(Diagnostic, code="E1411"):
    """Training of a piece ended in a loss that is NaN or infinite."""

    template = "bld `{name}`: training {what} of layer {layer} ended in a loss of {loss}"
    help_template = "lower `lr`, which peaks at {peak:g}; finished pieces are kept"


class ParentNotFinite(Diagnostic, code="E1412"):
    """A layer of the parent outputs NaN or infinity."""

    template = "the {sub_block} of the parent's layer {layer} returns NaN or infinite values"
    help_template = "its weights are damaged, or too large for {dtype}: copy the checkpoint again; finished pieces are kept"
