"""Diagnostics of reading a block library."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class PieceMissing(Diagnostic, code="E1301", template="the block library `{root}` has no piece `{id}`"):
    """A piece that the library does not contain."""

    help_template = "run `pzl bld` again: it makes the missing pieces and keeps the others"


class PieceDamaged(Diagnostic, code="E1302", template="the piece `{file}` is damaged: {reason}"):
    """A piece's file that does not match its index line."""

    help_template = "run `pzl bld` again: it makes the damaged pieces anew and keeps the others"


class IndexDamaged(Diagnostic, code="E1303", template="line {line} of `{file}` is damaged: {reason}"):
    """A line of the index, other than the last, that is not a valid piece."""

    help_template = "delete that line and run `pzl bld` again: it makes what is missing and keeps the others"
