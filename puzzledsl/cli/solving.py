"""`pzl solve`: the search, its proof, and what is in the way when there is no answer. Loads no torch."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import typer

from puzzledsl.cli.options import (
    BuildOption,
    FileArgument,
    JsonOption,
    NamesArgument,
    SetOption,
)

if TYPE_CHECKING:
    from puzzledsl.ir.tables import SearchResult
    from puzzledsl.runs.context import Context


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("solve")(solve)


def solve(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Solve searches: status, objective, proven bound and gap, and the child's layers and metrics.

    A search that needs scores or measurements that are not made yet says which command makes them. One without a
    solution names a smallest set of requirements that conflict and how far each could go.
    """
    from puzzledsl.cli import loading, output
    from puzzledsl.diagnostics import Diagnostic
    from puzzledsl.runs.execute import execute, locked
    from puzzledsl.runs.targets import chosen

    ctx = loading.context(file, set_, build)
    names = chosen("search", ctx.program.searches, searches, ctx.file)
    ready, problems = _ready(ctx, names)
    results: list[tuple[SearchResult, float]] = []
    with locked(ctx):
        from puzzledsl.ir.tables import SearchResult
        from puzzledsl.runs import tasks

        for name in ready:
            began = time.monotonic()
            execute(ctx, [tasks.solve(ctx, name)], force=True)
            result = ctx.load(ctx.build.solution(name), SearchResult, "solve", name)
            results.append((result, time.monotonic() - began))
            if result.status == "infeasible":
                problems.append(_infeasible(ctx, result))
    if json:
        output.print_json([as_json(result, seconds) for result, seconds in results])
    else:
        texts = [as_text(result, seconds) for result, seconds in results if result.solutions]
        if texts:
            print("\n\n".join(texts))
    shown: list[Diagnostic] = problems
    if shown:
        output.print_diagnostics(shown, {})
        raise typer.Exit(1)


def _ready(ctx: Context, names: list[str]) -> tuple[list[str], list]:  # type: ignore[type-arg]
    """The searches whose tables are all there, and a diagnostic for each of the others."""
    from puzzledsl.runs.targets import not_ready

    ready, problems = [], []
    for name in names:
        problem = not_ready(ctx, name)
        if problem is None:
            ready.append(name)
        else:
            problems.append(problem)
    return ready, problems


def _infeasible(ctx: Context, result: SearchResult):  # type: ignore[no-untyped-def]
    from puzzledsl.search.explain import infeasible_diagnostic

    return infeasible_diagnostic(ctx.program, result)


def as_json(result: SearchResult, seconds: float) -> dict[str, object]:
    """The documented JSON form of one result."""
    return {
        "search": result.search,
        "status": result.status,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "seconds": round(seconds, 3),
        "solutions": [
            {
                "objective": solution.objective,
                "layers": [layer.model_dump() for layer in solution.layers],
                "batches": solution.batches,
                "metrics": solution.metrics,
            }
            for solution in result.solutions
        ],
        "conflict": [item.model_dump() for item in result.conflict],
    }


def as_text(result: SearchResult, seconds: float) -> str:
    """One result for people: the proof, the metrics beside the parent's, the layers."""
    from puzzledsl.runs.card import metric_text

    best = result.solutions[0]
    proof = f"objective {best.objective:.6g}"
    if result.bound is not None:
        proof += f", bound {result.bound:.6g}, gap {(result.gap or 0):.2g}"
    lines = [
        f"search {result.search}: {result.status} ({proof}) by {result.solver} in {seconds:.2f} s, verified"
    ]
    for name, value in sorted(best.metrics.items()):
        parent = result.parent_metrics.get(name)
        ratio = f"  {value / parent:.3g}x of the parent's {metric_text(name, parent)}" if parent else ""
        lines.append(f"  {name:<20} {metric_text(name, value)}{ratio}")
    for part in ("attention", "ffn"):
        counts = Counter(getattr(layer, part) for layer in best.layers)
        text = ", ".join(f"{n} x {name}" for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
        lines.append(f"  {part:<20} {text}")
    if len(result.solutions) > 1:
        others = ", ".join(f"{solution.objective:.6g}" for solution in result.solutions[1:])
        lines.append(f"  further solutions    {others}")
    return "\n".join(lines)
