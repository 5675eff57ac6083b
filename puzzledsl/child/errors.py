"""Diagnostics of defining a child."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoPiece(Diagnostic, code="E1021"):
    """A solution chooses an alternative that no BLD declaration makes."""

    template = "search `{search}` chose {what} in {layers}, and no `bld` of space `{space}` makes {it}"
    help_template = "{help}"
