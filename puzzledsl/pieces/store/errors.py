"""Diagnostics of reading a block library."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class PieceMissing(Diagnostic):
    """A piece that the library does not contain.

    The index of the library has no such piece: `pzl bld` was interrupted, or the space has grown.

    Wrong:
        $ pzl realise wide.pzl best
    Right:
        $ pzl bld wide.pzl
        $ pzl realise wide.pzl best
    """

    code = "E1301"
    template = "the block library `{root}` has no piece `{id}`"
    help_template = "run `pzl bld` again: it makes the missing pieces and keeps the others"


class PieceDamaged(Diagnostic):
    """A piece's file that does not match its index line.

    The file is missing or truncated, or its tensors differ from the index.

    Wrong:
        $ truncate -s 100 build/library/*.safetensors
    Right:
        $ pzl bld wide.pzl
    """

    code = "E1302"
    template = "the piece `{file}` is damaged: {reason}"
    help_template = "run `pzl bld` again: it makes the damaged pieces anew and keeps the others"


class IndexDamaged(Diagnostic):
    """A line of the index, other than the last, that is not a valid piece.

    The index has one piece per line. A truncated last line is ignored; any other invalid line is an error.

    Wrong:
        $ edit build/library/index.jsonl
    Right:
        $ pzl bld wide.pzl
    """

    code = "E1303"
    template = "line {line} of `{file}` is damaged: {reason}"
    help_template = "delete that line and run `pzl bld` again: it makes what is missing and keeps the others"
