"""Children that were measured around a search's optimum, as text. "Proven" is what the search proved, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.changes.words import refine as refine_words
from puzzledsl.ir.nodes import Search
from puzzledsl.ir.tables import MeasuredChild, Refinement
from puzzledsl.report.refined import ORIGINS


def refined_line(found: Refinement) -> str:
    """`best of 24 measured children: kl 0.5123 (the optimum of the scores: 0.6864)`."""
    optimum = found.optimum
    beside = "" if optimum is None else f" (the optimum of the scores: {optimum.measured:.4g})"
    best = found.best.measured
    return f"best of {len(found.children)} measured children: {found.score} {best:.4g}{beside}"


def solve_note(search: Search) -> str:
    """The line that the answer of a search to be refined bears."""
    assert search.refine is not None
    return f"the optimum of the scores; `pzl refine` measures around it: {refine_words(search.refine)}"


def refinement_text(found: Refinement) -> str:
    """The best child beside the optimum of the scores, then the children in the order measured."""
    return "\n".join(_lines(found))


def _lines(found: Refinement) -> Iterator[str]:
    positions = f"{found.samples:,} positions"
    healed = f"healed on {found.healed:,} tokens" if found.healed else "not healed"
    yield f"search {found.search}: {len(found.children)} children, {healed}, measured on {positions}"
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
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [f"{row[0]:>{widths[0]}}", f"{row[1]:<{widths[1]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  " + "  ".join(cells).rstrip()


def _figures(found: Refinement, child: MeasuredChild) -> str:
    return f"{found.score} {child.measured:.4g} measured, {child.predicted:.4g} predicted"
