"""Mistakes that show when a child is planned or a plan is read."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoPiece(Diagnostic):
    """A solution chooses an alternative that no BLD declaration makes."""

    code = "E1021"
    template = "search `{search}` chose {what} in {layers}, and no `bld` of space `{space}` makes {it}"
    help_template = "{help}"


class BadPlan(Diagnostic):
    """A plan file with a line that is no job."""

    code = "E1022"
    template = "line {line} of `{path}` is no BLD job: {reason}"
    help_template = "`pzl compile` writes the plan again"
