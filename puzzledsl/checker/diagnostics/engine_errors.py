"""Diagnostics of `measured(engine: ...)` that the checker finds."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class EngineLacksType(Diagnostic, code="E1806"):
    """A data type or device that the engine of `measured(...)` does not have."""

    template = "{engine} has no {key} `{value}`"


class EngineLacksAlternative(Diagnostic, code="E1807"):
    """A space is searched by costs of an engine that cannot run all of its children."""

    template = "{engine} cannot run {what}: {reason}"
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
