"""Pieces of a block library, the jobs that determine them, and the definition of a child that is made of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables.answers import PARENT_ENDS, EndsAssignment


class BldJob(Frozen):
    """One piece to make: initialise from the parent's layer, then train alone against the parent's outputs.

    Decoupled jobs have one of `attention`, `ffn`; coupled jobs have both. The job of a head that is rounded to
    the type `head` has neither: it is a block behind the last layer. `id` is a digest of everything that determines
    the result, so equal jobs of different programs share a piece.
    """

    id: str
    bld: str
    layer: int
    sub_block: Literal["attention", "ffn", "block"]
    attention: AttentionAlternative | None = None
    ffn: FfnAlternative | None = None
    shapes: dict[str, tuple[int, ...]]  # weight name -> shape, as stored
    init: str
    loss: str
    tokens: int
    context: int
    batch: int
    lr: Schedule
    calibration_tokens: int
    seed: int
    head: PrecisionName | None = left_out(None)


class Piece(Artefact):
    """Record of a finished piece in the library. Losses are normalised MSE on held-out activations."""

    job: BldJob
    file: str
    sha256: str
    loss_initial: float
    loss_final: float
    tokens: int


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


class LayerDefinition(Frozen):
    """One layer of a child. A piece is a job id of the library; None for parent and noop."""

    attention: AttentionAlternative
    ffn: FfnAlternative
    attention_piece: str | None = None
    ffn_piece: str | None = None
    block_piece: str | None = None  # coupled: holds both


class ModelDefinition(Artefact):
    """`build/models/SEARCH/definition.json`: all that is needed to assemble a child."""

    name: str
    search: str
    parent: str
    layers: tuple[LayerDefinition, ...]
    ends: EndsAssignment = left_out(PARENT_ENDS)
    """Types of the embedding and the head; `parent`: as they are in the parent."""
    head_piece: str | None = left_out(None)
    """The piece with a rounded head's matrix; None: it is rounded to the nearest."""
