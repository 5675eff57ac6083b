"""Diagnostics of reading a plan."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class BadPlan(Diagnostic, code="E1022", template="line {line} of `{path}` is no BLD job: {reason}"):
    """A plan file with a line that is not a job."""

    help_template = "`pzl compile` writes the plan again"
