"""Diagnostics of defining a child."""

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
