"""Pieces of a block library: the job that determines a piece, and its record when it is made."""

from __future__ import annotations

from typing import Literal

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.nodes import Schedule


class BldJob(Frozen):
    """One piece to make: initialise from the parent's layer, then train alone against the parent's outputs.

    Decoupled jobs have one of `attention`, `ffn`; coupled jobs have both. `id` is a digest of everything that determines
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


class Piece(Artefact):
    """Record of a finished piece in the library. Losses are normalised MSE on held-out activations."""

    job: BldJob
    file: str
    sha256: str
    loss_initial: float
    loss_final: float
    tokens: int
