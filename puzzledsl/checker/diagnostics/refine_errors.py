"""Diagnostics of `refine`: E042x, and a warning."""

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
