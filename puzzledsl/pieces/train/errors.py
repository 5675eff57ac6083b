"""Diagnostics of training pieces (E1401, E1402, E1403, E1411, E1412)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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


class NoRoomForPiece(Diagnostic):
    """One piece, trained alone and one sequence at a time, exceeds the memory of the device.

    Smaller micro-batches and more passes over the text were tried before. Finished pieces are kept.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 1M, context = 128Ki }    # on a GPU of 8 GiB
    Right:
        bld pieces of w { train = attention + ffn, tokens = 1M, context = 8Ki }
    """

    code = "E1403"
    template = "bld `{name}` runs out of memory with a single piece of layer {layer}: {reason}"
    help_template = (
        "lower `context`, leave the largest alternatives out of the space, or use a device with more memory"
    )


class LossNotFinite(Diagnostic):
    """Training of a piece ended in a loss that is NaN or infinite.

    The usual cause is a learning rate that is far too high. Finished pieces are kept, also those of the same layer.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 1M, lr = cosine(1000) }
    Right:
        bld pieces of w { train = attention + ffn, tokens = 1M, lr = cosine(1e-3) }
    """

    code = "E1411"
    template = "bld `{name}`: training {what} of layer {layer} ended in a loss of {loss}"
    help_template = "lower `lr`, which peaks at {peak:g}; finished pieces are kept"


class ParentNotFinite(Diagnostic):
    """A layer of the parent outputs NaN or infinity.

    Its weights are damaged, or too large for the dtype that it runs in. Pieces of earlier layers are kept.

    Wrong:
        # parent/model.safetensors: model.layers.7.mlp.down_proj.weight has an entry that is not a number
        parent q = hf("parent")
    Right:
        # parent/model.safetensors as it was published
        parent q = hf("parent")
    """

    code = "E1412"
    template = "the {sub_block} of the parent's layer {layer} returns NaN or infinite values"
    help_template = "its weights are damaged, or too large for {dtype}: copy the checkpoint again; finished pieces are kept"
