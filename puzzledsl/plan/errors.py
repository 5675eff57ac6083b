"""Diagnostics of reading a plan."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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
