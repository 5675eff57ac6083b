"""Losses of the block library, initial and trained, by alternative."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from puzzledsl.ir.tables import Piece
from puzzledsl.plan.bld import bld_plan
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number


@dataclass(frozen=True)
class LayerLoss:
    """One piece: its losses and, as fractions of the worst of the library, its bars."""

    layer: int
    initial: Number
    final: Number
    initial_bar: float
    final_bar: float


@dataclass(frozen=True)
class PieceRow:
    """The pieces of one alternative: mean normalised MSE on held-out activations, and each layer's."""

    sub_block: str
    name: str
    pieces: int
    initial: Number
    final: Number
    gain: Number
    layers: tuple[LayerLoss, ...]


@dataclass(frozen=True)
class Library:
    """All pieces of one BLD declaration."""

    name: str
    made: int
    planned: int
    tokens: Number
    depth: int
    rows: tuple[PieceRow, ...]


def libraries(found: Artefacts) -> list[Library]:
    """Return one table per BLD declaration with at least one piece. Pieces of other programs are left out."""
    tables = []
    for name in found.program.blds:
        jobs = bld_plan(found.program, name)
        made = [found.pieces[job.id] for job in jobs if job.id in found.pieces]
        if made:
            tokens = numbers.count(sum(piece.tokens for piece in made))
            depth = len(found.program.spaces[found.program.blds[name].space].layers)
            tables.append(Library(name, len(made), len(jobs), tokens, depth, tuple(_rows(made))))
    return tables


def _rows(pieces: Sequence[Piece]) -> Iterable[PieceRow]:
    groups: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(_group(piece), []).append(piece)
    worst = max((max(p.loss_initial, p.loss_final) for p in pieces), default=0) or 1
    for (sub_block, name), group in groups.items():
        initial, final = _mean(p.loss_initial for p in group), _mean(p.loss_final for p in group)
        yield PieceRow(
            sub_block=sub_block,
            name=name,
            pieces=len(group),
            initial=numbers.plain(initial, 3),
            final=numbers.plain(final, 3),
            gain=numbers.change(final / initial - 1 if initial else 0.0),
            layers=tuple(_layer(piece, worst) for piece in sorted(group, key=lambda p: p.job.layer)),
        )


def _layer(piece: Piece, worst: float) -> LayerLoss:
    initial, final = numbers.plain(piece.loss_initial, 3), numbers.plain(piece.loss_final, 3)
    return LayerLoss(
        piece.job.layer, initial, final, piece.loss_initial / worst, min(piece.loss_final / worst, 1.0)
    )


def _group(piece: Piece) -> tuple[str, str]:
    job = piece.job
    if job.attention and job.ffn:
        return "block", f"{job.attention.name}/{job.ffn.name}"
    if job.attention:
        return "attention", job.attention.name
    return "FFN", job.ffn.name if job.ffn else ""


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return fsum(listed) / len(listed)
