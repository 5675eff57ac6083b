"""Diagnostics of what a later stage cannot do: the checker reports them early, and the stage where it could not know."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NothingMeasured(Diagnostic, code="E0416"):
    """A solver that needs measured layer statistics, for a space whose scores come only from tables."""

    template = "search `{search}` drops layers by `{solver}`, and no score of `{space}` is measured"
    help_template = "declare one: `score NAME of BLD = replace_one(kl_divergence)`, of a `bld` of `{space}`"


class EndsNotTaken(Diagnostic, code="E0418"):
    """A stage, an engine or a table that has nothing to say of an embedding or a head in another type."""

    template = "{what} cannot have the {ends} of space `{space}` in another type: {why}"
    help_template = "{help}"


class JudgedOnWhatIsRead(Diagnostic, code="E0419"):
    """A judge whose text or questions are read elsewhere, so that a child is chosen by what it learns or is reported on."""

    template = "judge `{judge}` reads {what} that {reader} reads, too{found}"
    help_template = "keep them apart: `part: 0%..95%` of the files for one, `part: 95%..100%` for the other"


class RecipeOfQuantised(Diagnostic, code="E0475"):
    """A whole-file recipe for a child whose sub-blocks have storage types of their own."""

    template = (
        "the recipe `{recipe}` chooses the type of every matrix, and sub-blocks have their own: {types}"
    )
    help_template = "write `dtype: f16`, the type of the other matrices; or leave `dtype` out of the space"


class CannotRealise(Diagnostic, code="E0711", template="`{alternative}` cannot yet be realised as a module"):
    """An alternative of an installed package that has no module."""

    help_template = (
        "it can be costed and searched, but not trained, scored or exported; leave it out of the space"
    )


class UnknownTokenizer(Diagnostic, code="E0737"):
    """A tokenizer that a GGUF file cannot represent exactly."""

    template = "the tokenizer of `{path}` cannot be written to a GGUF file: {reason}"
    help_template = 'export with `hf("…")`; llama.cpp would split text otherwise than the parent does'


class NoPieceForAlternative(Diagnostic, code="E1501"):
    """An alternative for which the score's BLD makes no piece."""

    template = "score `{score}`: bld `{bld}` makes no piece for {what} in layer {layer}"
    help_template = "write `train = attention + ffn` (or `attention * ffn`) in `{bld}`, or leave the alternative out of the space"


class NoFit(Diagnostic, code="E1504"):
    """A fit to children for a metric that cannot be fitted, or around a child."""

    template = "score `{score}` has `children`, but {what} cannot be fitted to children"
    help_template = "`children` goes with `replace_one(kl_divergence, …)` in the parent; leave it out here"


class SeveralGpus(Diagnostic, code="E1803"):
    """Several GPUs for a measurement, which supports one device."""

    template = "hardware `{name}` asks for {gpus} GPUs; costs are measured on one"
    help_template = "write `gpus: 1`, or use a profile for tensor parallel hardware"
