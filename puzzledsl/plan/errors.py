"""Diagnostics of planning a child and of reading a plan."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoPiece(Diagnostic):
    """A solution chooses an alternative that no BLD declaration makes.

    A child is assembled from pieces, and no `bld` of this space makes one that the solution uses.

    Wrong:
        bld pieces of w { train = ffn, tokens = 0 }
        search s of w { minimize params }
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        search s of w { minimize params }
    """

    code = "E1021"
    template = "search `{search}` chose {what} in {layers}, and no `bld` of space `{space}` makes {it}"
    help_template = "{help}"


class BadPlan(Diagnostic):
    """A plan file with a line that is not a job.

    A plan is a file of the build directory with one job per line; it was edited or truncated.

    Wrong:
        $ head -c 1000 build/bld/pieces.jsonl > plan.jsonl
    Right:
        $ pzl compile wide.pzl
    """

    code = "E1022"
    template = "line {line} of `{path}` is no BLD job: {reason}"
    help_template = "`pzl compile` writes the plan again"
