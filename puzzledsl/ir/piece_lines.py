"""A piece as one line of a library's index: JSON with its own checksum, because no stamp covers the index."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from puzzledsl.ir.tables import Piece


def line_of_piece(piece: Piece) -> bytes:
    """The line, with its end. The same piece gives the same bytes."""
    fields = piece.model_dump(mode="json")
    return _text({**fields, "check": _check(fields)}) + b"\n"


def piece_of_line(line: bytes) -> Piece:
    """Parse a line. Raises ValueError when it is no piece, or not as it was written."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    check = fields.pop("check", None)
    if check is not None and check != _check(fields):
        raise ValueError("its check does not fit: it was changed or damaged")
    return Piece.model_validate(fields)


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_text(fields)).hexdigest()[:16]


def _text(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
