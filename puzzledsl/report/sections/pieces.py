"""Losses of the block library, initial and trained, by alternative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from puzzledsl.ir.tables import Piece
from puzzledsl.plan.bld import bld_plan
from puzzledsl.report.subject import Artefacts


@dataclass(frozen=True)
class Library:
    """All pieces of one BLD declaration. `groups`: those of each alternative, (sub-block, name), by layer.

    `worst`: the largest loss, a whole bar.
    """

    name: str
    made: list[Piece]
    planned: int
    depth: int
    groups: dict[tuple[str, str], list[Piece]]
    worst: float


def libraries(found: Artefacts) -> Iterator[Library]:
    """Yield one table per BLD declaration with at least one piece. Pieces of other programs are left out."""
    for name in found.program.blds:
        jobs = bld_plan(found.program, name)
        made = [found.pieces[job.id] for job in jobs if job.id in found.pieces]
        groups: dict[tuple[str, str], list[Piece]] = {}
        for piece in made:
            groups.setdefault(_group(piece), []).append(piece)
        for group in groups.values():
            group.sort(key=lambda piece: piece.job.layer)
        if made:
            depth = len(found.program.spaces[found.program.blds[name].space].layers)
            worst = max(max(piece.loss_initial, piece.loss_final) for piece in made) or 1
            yield Library(name, made, len(jobs), depth, groups, worst)


def _group(piece: Piece) -> tuple[str, str]:
    job = piece.job
    if job.attention and job.ffn:
        return "block", f"{job.attention.name}/{job.ffn.name}"
    if job.attention:
        return "attention", job.attention.name
    return "FFN", job.ffn.name if job.ffn else ""
