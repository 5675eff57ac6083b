"""A solved search on a few lines: required and achieved figures, the child as a strip, and the differences from before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from puzzledsl.cli.text.answers import glyphs

if TYPE_CHECKING:
    from puzzledsl.base.render import Painter
    from puzzledsl.ir.tables import SearchResult
    from puzzledsl.pipeline.watch import Snapshot
    from puzzledsl.report.pictures.architecture import Cell
    from puzzledsl.report.subject import Subject


def answer(snapshot: Snapshot, name: str, before: SearchResult | None, *, color: bool) -> str:
    """Return one search as text, beside its previous answer."""
    from puzzledsl.base.render import Painter
    from puzzledsl.report.artefacts import Artefacts
    from puzzledsl.report.subject import Subject

    assert snapshot.context is not None
    found = Artefacts(snapshot.context.program, results=dict(snapshot.results), costs=dict(snapshot.costs))
    return "\n".join(_lines(Subject(found, name), snapshot, before, Painter(color)))


def _lines(
    subject: Subject, snapshot: Snapshot, before: SearchResult | None, paint: Painter
) -> Iterator[str]:
    from puzzledsl.base.phrases import layers_in_words
    from puzzledsl.pipeline.text.refined_text import solve_note
    from puzzledsl.pipeline.watch import changed_layers

    result = snapshot.results[subject.name]
    if not result.solutions:
        yield from _no_answer(snapshot, result, paint)
        return
    objective = result.solutions[0].objective
    head = (
        f"{paint(subject.name, 'bold')}  {paint(result.status, 'good')}  {_goal(subject)} = {objective:.6g}"
    )
    yield head + _moved(objective, before, subject.search.sense, paint)
    if subject.search.refine is not None:
        yield paint(f"  {solve_note(subject.search)}", "faint")
    yield from _requirements(subject, paint)
    yield from _strip(subject, paint)
    if changed := changed_layers(before, result):
        yield f"  changed    {layers_in_words(changed)}"
    elif before is not None and before.solutions:
        yield paint("  the same child as before", "faint")


def _goal(subject: Subject) -> str:
    from puzzledsl.report.sections.searches import describe

    return describe(subject.search.objective)


def _moved(objective: float, before: SearchResult | None, sense: str, paint: Painter) -> str:
    if before is None or not before.solutions:
        return ""
    old = before.solutions[0].objective
    if old == objective:
        return ""
    better = (objective < old) == (sense == "minimize")
    share = f", {(objective / old - 1) * 100:+.1f} %" if old else ""
    return paint(f"  (was {old:.6g}{share})", "good" if better else "bad")


def _requirements(subject: Subject, paint: Painter) -> Iterator[str]:
    from puzzledsl.report.sections.requirements import requirement_lines

    lines = requirement_lines(subject, measured=False)
    width = max((len(line.text) for line in lines), default=0)
    for line in lines:
        mark = {"met": paint("✓", "good"), "missed": paint("✗", "bad"), "unsure": "≈", "unknown": "?"}[
            line.mark
        ]
        got = line.predicted.text if line.predicted else ""
        room = f"room {line.room.text}" if line.room else ""
        yield f"  {mark} {line.text.ljust(width)}  {got.rjust(12)}  {paint(room, 'faint')}".rstrip()


def _strip(subject: Subject, paint: Painter) -> Iterator[str]:
    from puzzledsl.report.pictures.architecture import strip_of

    strip = strip_of(subject)
    if strip is None:
        return
    for label, cells, entries in (
        ("attention", [c.attention for c in strip.columns], strip.attention),
        ("ffn", [c.ffn for c in strip.columns], strip.ffn),
    ):
        signs = glyphs((cell.name, cell.kind, cell.kept) for cell in cells)
        counts = "  ".join(f"{_painted(e.cell, signs, paint)} {e.cell.name} {e.layers}" for e in entries)
        yield f"  {label:<10} {''.join(_painted(cell, signs, paint) for cell in cells)}  {counts}"


def _painted(cell: Cell, signs: dict[str, str], paint: Painter) -> str:
    style = {"noop": "faint", "linear": "linear"}.get(cell.kind, cell.sub_block)
    return paint(signs[cell.name], style)


def _no_answer(snapshot: Snapshot, result: SearchResult, paint: Painter) -> Iterator[str]:
    from puzzledsl.base.render import render
    from puzzledsl.search.infeasible.verdicts import no_answer

    assert snapshot.context is not None
    problem = no_answer(snapshot.context.program, result)
    yield f"{paint(result.search, 'bold')}  {paint(result.status, 'bad')}"
    if problem is not None:
        from puzzledsl.cli.output import sources_for

        yield render(problem, sources_for([problem], snapshot.sources), color=paint.color)
