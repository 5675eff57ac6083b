"""Measured children as text. Only the search's optimum is called proven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from puzzledsl.changes.words import refine as refine_words
from puzzledsl.ir.nodes import Program, Search
from puzzledsl.ir.tables import MeasuredChild, RefinedFrontier, Refinement
from puzzledsl.pipeline.text.card import bound_text
from puzzledsl.report.pictures.curves import how_measured
from puzzledsl.report.sections.refined import ORIGINS
from puzzledsl.report.sections.searches import describe_term


def refined_line(found: Refinement) -> str:
    """`best of 24 measured children: kl 0.5123 (the optimum of the scores: 0.6864)`."""
    optimum = found.optimum
    beside = "" if optimum is None else f" (the optimum of the scores: {optimum.measured:.4g})"
    best = found.best.measured
    return f"best of {len(found.children)} measured children: {found.score} {best:.4g}{beside}"


def refined_points_line(found: RefinedFrontier) -> str:
    """`best measured children at 2 of 3 points: kl 0.5123 to 0.6864`."""
    known = [point.refinement for point in found.points if point.refinement is not None]
    text = f"best measured children at {len(known)} of {len(found.points)} points"
    losses = [refinement.best.measured for refinement in known]
    return f"{text}: {known[0].score} {min(losses):.4g} to {max(losses):.4g}" if known else text


def solve_note(search: Search) -> str:
    """Return the line below the answer of a search with `refine`."""
    assert search.refine is not None
    return f"the optimum of the scores; `pzl refine` measures around it: {refine_words(search.refine)}"


def refinement_text(found: Refinement) -> str:
    """Return the best child beside the optimum of the scores, then the children in the order measured."""
    return "\n".join(_lines(found))


def _lines(found: Refinement) -> Iterator[str]:
    yield f"search {found.search}: {len(found.children)} children, {how_measured(found)}"
    best, optimum = found.best, found.optimum
    if optimum is not None:
        yield f"  optimum of the scores   {_figures(found, optimum)}"
    yield f"  best measured child     {_figures(found, best)}; nothing proves it"
    yield f"  its objective           {found.solution.objective:.6g}, the proven optimum's {found.proven:.6g}"
    yield f"  optimum of the refit    {found.score} {found.model_prediction:.4g} predicted"
    yield ""
    rows = [("#", "origin", "predicted", "measured")]
    for number, child in enumerate(found.children, start=1):
        predicted = f"{child.predicted:.4g} ± {child.predicted_stderr:.2g}"
        rows.append((str(number), ORIGINS[child.origin], predicted, f"{child.measured:.4g}"))
    yield from _table(rows, "><>>")


def _figures(found: Refinement, child: MeasuredChild) -> str:
    return f"{found.score} {child.measured:.4g} measured, {child.predicted:.4g} predicted"


def refined_frontier_text(program: Program, found: RefinedFrontier) -> str:
    """Return one line for each point: its best measured child beside the optimum of the scores.

    Children measured elsewhere count at every point whose bound they meet.
    """
    swept = describe_term(program.frontiers[found.frontier].term)
    first = next((point.refinement for point in found.points if point.refinement is not None), None)
    head = f"frontier {found.frontier}: "
    head += "no child meets a bound" if first is None else f"{first.score} of children {how_measured(first)}"
    rows = [(swept, "children", "elsewhere", "best measured", "optimum, measured", "the best is")]
    for point in found.points:
        target, here = bound_text(swept, point.target, point.ratio), point.refinement
        if here is None:
            rows.append((target, "0", "0", "", "", "no child meets the bound"))
            continue
        optimum = "" if here.optimum is None else f"{here.optimum.measured:.4g}"
        best, own = here.best, len(here.here)
        counts = str(own), str(len(here.children) - own)
        rows.append((target, *counts, f"{best.measured:.4g}", optimum, ORIGINS[best.origin]))
    return "\n".join([head, *_table(rows, "<>>>><")])


def _table(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """Yield rows with aligned columns; `sides`: `<` or `>` for each."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()
