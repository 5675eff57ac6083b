"""Mistakes found when pieces are made."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoTrainingText(Diagnostic):
    """BLD without data.

    Pieces are trained against the parent on text. With several `data` declared, each `bld` names its own.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 1M }
    Right:
        data mix = text("corpus/*.txt")
        bld pieces of w { train = attention + ffn, tokens = 1M, data = mix }
    """

    code = "E1401"
    template = "bld `{name}` names no data to train on"
    help_template = 'declare `data mix = text("corpus/*.txt")` and add `data = mix` to the bld'


class NoScratchSpace(Diagnostic):
    """Activations do not fit on the disk.

    The parent's activations are kept on disk while a layer's pieces are trained.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 1T }
    Right:
        bld pieces of w { train = attention + ffn, tokens = 1M }
    """

    code = "E1402"
    template = "bld `{name}` needs {needed} of disk for activations in `{work}`; {free} is free"
    help_template = "free some space, build elsewhere with `-o`, or lower `tokens`"
