"""Diagnostics of single kinds of declarations: `refine` (E042x), evaluations and texts (E043x), exports (E047x), engines."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class GoalNotMeasured(Diagnostic, code="E0421"):
    """`refine` of a search whose goal is not one score that `pzl` measures on text."""

    template = "`refine` measures children, and the goal of `{search}` is no score that is measured on text"


class RefinesToOne(Diagnostic, code="E0422"):
    """`refine` of a search for several solutions."""

    template = "`refine` ends in one child, and `{search}` asks for {solutions} solutions"
    help_template = "write `solutions 1`, or `refine = none`"


class BaselineRefined(Diagnostic, code="E0423"):
    """`refine` of a search that a baseline solves."""

    template = "`refine` starts from a proven optimum, and the baseline `{solver}` that solves `{search}` proves none"
    help_template = "write `solver = cpsat`, or `refine = none`"


class NoWeightsToRefine(Diagnostic, code="E0424"):
    """`refine` of a search whose parent is only a shape."""

    template = "`refine` measures children of `{parent}`, which has no weights"
    help_template = (
        'give it a checkpoint, `parent {parent} = hf("ID")`, or write `refine = none` in `{search}`'
    )


class HealedToMeasureAlone(Diagnostic, code="W0425"):
    """`refine` measures healed children of pieces whose `bld` heals none."""

    template = "`refine` measures healed children, and those of `{bld}` are built without healing"
    help_template = "write `healed: 0`, or leave out `heal = 0` in `{bld}`"


class NotInFull(Diagnostic, code="E0431"):
    """`full` of an `eval` that leaves out the child it evaluates."""

    template = "`full` leaves out `{child}`, the child that `{evaluation}` evaluates"
    help_template = "write `full = {written}`"


class PromptsNotAFile(Diagnostic, code="E0432"):
    """`prompts` with a string that names neither a `.jsonl` nor a `.txt` file."""

    template = "`prompts` names a file of prompts, and `{path}` is neither a `.jsonl` nor a `.txt` file"
    help_template = 'write `"prompts.txt"`, with blank lines between prompts, or `"prompts.jsonl"`'


class WrittenByAnother(Diagnostic, code="E0433"):
    """A text that another parent writes than the one whose child is made."""

    template = "{reader} makes children of parent `{parent}`, and `{data}` is written by parent `{writer}`"
    help_template = "write `sampled({parent}, …)`, or save the text of `{writer}` as files and read these"


class NoSuchFamily(Diagnostic, code="E0471"):
    """The runtime cannot run children of parents of this architecture."""

    template = "{runtime} cannot run children of {family} parents: {reason}"


class CannotRepresent(Diagnostic, code="E0472", template="{runtime} has no {what}: {layers} ({reason})"):
    """An alternative that the runtime lacks and that nothing in the runtime can replace exactly."""


class IsLowered(Diagnostic, code="W0473", template="{runtime} has no {what}"):
    """An alternative that the runtime lacks and that the export rewrites into something the runtime has."""


class LoweringRefused(Diagnostic, code="E0474"):
    """An alternative that the runtime lacks, in an export that forbids rewriting with `lower: false`."""

    template = "{runtime} has no {what}, and `lower: false` forbids rewriting it"


class EngineLacksType(Diagnostic, code="E1806", template="{engine} has no {key} `{value}`"):
    """A data type or device that the engine of `measured(...)` does not have."""


class EngineLacksAlternative(Diagnostic, code="E1807", template="{engine} cannot run {what}: {reason}"):
    """A space is searched by costs of an engine that cannot run all of its children."""

    help_template = (
        "drop it from `{space}`, or measure in another engine: `measured(engine: torch)` runs everything"
    )


class FullIsRounded(Diagnostic, code="E1810"):
    """A space has alternatives without a type, and its costs are measured in a file that stores these in few bits."""

    template = (
        "{what} has no `dtype`: {engine} stores it in `{dtype}` here, and no score knows of that rounding"
    )
    help_template = "give it a `dtype` in `{space}`, or measure with `dtype: q8_0`"


class NotOfPyTorch(Diagnostic, code="E1808"):
    """`threads` for PyTorch, whose threads are those of this process."""

    template = "hardware `{name}` is measured in PyTorch, which takes no `threads` here"
    help_template = "set OMP_NUM_THREADS when you run `pzl`, or name an engine: `engine: llama_cpp`"


class MoneyNotStated(Diagnostic, code="E1809"):
    """`cost_per_mtok` or `joules_per_tok` of a scenario that has none."""

    template = "`{metric}` needs the `{key}` of hardware `{hardware}` and one batch"
