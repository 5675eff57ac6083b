"""Diagnostics of `refine`: E042x, and a warning."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class GoalNotMeasured(Diagnostic):
    """`refine` of a search whose goal is not one score that `pzl` measures on text.

    Refining measures children whole and refits the scores of the goal to what was measured. So the goal must be one
    `replace_one` score to be minimised: no table from elsewhere, no sum with other things, no speed, no `accuracy`.

    Wrong:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { maximize params, require real <= 0.5, refine = measured(24) }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, refine = measured(24) }
    """

    code = "E0421"
    template = "`refine` measures children, and the goal of `{search}` is no score that is measured on text"


class RefinesToOne(Diagnostic):
    """`refine` of a search for several solutions.

    Refining yields one child, the best measured one. For a search with several solutions it is not clear which one to
    refine.

    Wrong:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, solutions 3, refine = measured(24) }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, solutions 3 }
    """

    code = "E0422"
    template = "`refine` ends in one child, and `{search}` asks for {solutions} solutions"
    help_template = "write `solutions 1`, or `refine = none`"


class BaselineRefined(Diagnostic):
    """`refine` of a search that a baseline solves.

    Refining starts from the proven optimum of the scores, and a baseline proves none. A search of a refined one that
    sets a baseline as its solver is not refined unless it says so.

    Wrong:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, solver = greedy, refine = measured(24) }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, solver = greedy }
    """

    code = "E0423"
    template = "`refine` starts from a proven optimum, and the baseline `{solver}` that solves `{search}` proves none"
    help_template = "write `solver = cpsat`, or `refine = none`"


class NoWeightsToRefine(Diagnostic):
    """`refine` of a search whose parent is only a shape.

    Children are built from the parent's weights and measured. A parent declared by its shape has no weights.

    Wrong:
        bld pieces of w { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of w { minimize real, require params <= 0.7x, refine = measured(24) }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, refine = measured(24) }
    """

    code = "E0424"
    template = "`refine` measures children of `{parent}`, which has no weights"
    help_template = (
        'give it a checkpoint, `parent {parent} = hf("ID")`, or write `refine = none` in `{search}`'
    )


class HealedToMeasureAlone(Diagnostic):
    """`refine` measures healed children of pieces whose `bld` heals none.

    The child that is built would then be another than the one that was measured.

    Wrong:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0, heal = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, refine = measured(24) }
    Right:
        use "std/parents.pzl" (llama3_1_8b)
        parent q = hf("meta-llama/Llama-3.1-8B", shape: llama3_1_8b)
        space v of q { ffn = parent | noop }
        bld pieces of v { tokens = 0, heal = 0 }
        score real of pieces = replace_one(kl_divergence)
        search s of v { minimize real, require params <= 0.7x, refine = measured(24, healed: 0) }
    """

    code = "W0425"
    severity = "warning"
    template = "`refine` measures healed children, and those of `{bld}` are built without healing"
    help_template = "write `healed: 0`, or leave out `heal = 0` in `{bld}`"
