"""The block library: how good pieces were when initialised and after training, by alternative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.tables import Piece
from puzzledsl.plan.bld import bld_plan
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number


@dataclass(frozen=True)
class PieceRow:
    """The pieces of one alternative: mean normalised MSE on held-out activations. Bars are fractions of the
    worst."""

    sub_block: str
    name: str
    pieces: int
    initial: Number
    final: Number
    gain: Number
    initial_bar: float
    final_bar: float


@dataclass(frozen=True)
class Library:
    """All pieces of one BLD declaration."""

    name: str
    made: int
    planned: int
    tokens: Number
    rows: tuple[PieceRow, ...]


def libraries(found: Artefacts) -> list[Library]:
    """A table a BLD declaration of which at least one piece is made. Pieces of other programs are left
    out."""
    tables = []
    for name in found.program.blds:
        jobs = bld_plan(found.program, name)
        made = [found.pieces[job.id] for job in jobs if job.id in found.pieces]
        if made:
            tokens = numbers.count(sum(piece.tokens for piece in made))
            tables.append(Library(name, len(made), len(jobs), tokens, tuple(_rows(made))))
    return tables


def _rows(pieces: Iterable[Piece]) -> Iterable[PieceRow]:
    groups: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(_group(piece), []).append(piece)
    means = {
        key: (_mean(p.loss_initial for p in group), _mean(p.loss_final for p in group))
        for key, group in groups.items()
    }
    worst = max((max(pair) for pair in means.values()), default=0) or 1
    for (sub_block, name), (initial, final) in means.items():
        yield PieceRow(
            sub_block=sub_block,
            name=name,
            pieces=len(groups[sub_block, name]),
            initial=numbers.plain(initial, 3),
            final=numbers.plain(final, 3),
            gain=numbers.change(final / initial - 1 if initial else 0.0),
            initial_bar=initial / worst,
            final_bar=final / worst,
        )


def _group(piece: Piece) -> tuple[str, str]:
    job = piece.job
    if job.attention and job.ffn:
        return "block", f"{name_of(job.attention)}/{name_of(job.ffn)}"
    if job.attention:
        return "attention", name_of(job.attention)
    return "FFN", name_of(job.ffn) if job.ffn else ""


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return fsum(listed) / len(listed)
