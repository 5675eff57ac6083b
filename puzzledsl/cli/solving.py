"""`pzl solve` and `pzl frontier`: tables in, proven answers out, and what is in the way when there is none. Without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.options import (
    BuildOption,
    FileArgument,
    JsonOption,
    NamesArgument,
    SetOption,
)
from puzzledsl.cli.why import why

if TYPE_CHECKING:
    from puzzledsl.diagnostics import Diagnostic
    from puzzledsl.ir.tables import SearchResult
    from puzzledsl.runs.context import Context

BaselinesOption = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Also solve every baseline under the same requirements, in one table.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("solve")(solve)
    app.command("frontier")(frontier)
    app.command("why")(why)


def solve(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    baselines: BaselinesOption = False,
) -> None:
    """Solve searches: status, objective, proven bound and gap, and the child's layers and metrics.

    A search that needs scores or measurements that are not made yet says which command makes them. One without a
    solution names a smallest set of requirements that conflict, how far each could go, and what would solve.

    With --json one list: [{"search", "status": "optimal|feasible|infeasible|unknown", "objective", "bound", "gap",
    "seconds", "found_by", "proved_by", "solutions": [{"objective", "layers": [{"attention", "ffn"}], "metrics":
    {name: value}}], "conflict": [{"line", "text", "reachable"}]}], metrics in base units (bytes, seconds, tokens/s); and
    "refine" of a search that is refined: {"method", "children", "healed", "samples", "data"}.
    """
    from puzzledsl.cli import answers, loading, output
    from puzzledsl.ir.nodes import CpSat
    from puzzledsl.runs.execute import locked
    from puzzledsl.runs.targets import chosen
    from puzzledsl.search.verdicts import no_answer

    ctx = loading.context(file, set_, build)
    names = chosen("search", ctx.program.searches, searches, ctx.file)
    ready, problems = _ready(ctx, names)
    documents: list[dict[str, object]] = []
    texts: list[str] = []
    with locked(ctx):
        for name in ready:
            search = ctx.program.searches[name]
            result, seconds = _solved(ctx, name)
            documents.append(answers.as_json(result, seconds, refine=search.refine))
            if (problem := no_answer(ctx.program, result)) is not None:
                problems.append(problem)
            else:
                texts.append(answers.as_text(ctx.program, result, seconds))
            if baselines and isinstance(search.solver, CpSat):
                rows = [(name, result), *_baselines(ctx, name)]
                documents += [answers.as_json(r, 0.0, f"{name}:{kind}") for kind, r in rows[1:]]
                texts.append(answers.baselines_text(search, rows))
    if json:
        output.print_json(documents)
    elif texts:
        print("\n\n".join(texts))
    if problems:
        output.print_diagnostics(problems, {})
        raise typer.Exit(1)


def frontier(
    file: FileArgument,
    frontiers: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Solve frontiers: the best child at every value of one metric, each point with its proof.

    Writes search/NAME.csv (one row a point) and search/NAME.svg (a plot any browser shows) beside search/NAME.json. Where it has
    `children: N`, `pzl refine` measures them at every point, writes refined/NAME.json, and the report draws them.
    """
    from puzzledsl.cli import answers, loading, output
    from puzzledsl.ir.tables import FrontierResult
    from puzzledsl.runs import tasks
    from puzzledsl.runs.execute import execute, locked
    from puzzledsl.runs.targets import chosen

    ctx = loading.context(file, set_, build)
    names = chosen("frontier", ctx.program.frontiers, frontiers, ctx.file, "frontier")
    ready, problems = [], []
    for name in names:
        _, waiting = _ready(ctx, [ctx.program.frontiers[name].search])
        problems += waiting
        ready += [] if waiting else [name]
    results = []
    with locked(ctx):
        for name in ready:
            execute(ctx, [tasks.frontier(ctx, name)], force=True)
            results.append(ctx.load(ctx.build.frontier(name), FrontierResult, "frontier", name))
    if json:
        output.print_json([_frontier_json(result) for result in results])
    for result in [] if json else results:
        files = [ctx.build.frontier_csv(result.frontier), ctx.build.frontier_plot(result.frontier)]
        print(answers.frontier_text(ctx.program, result, [_shown(path) for path in files]))
    if problems:
        output.print_diagnostics(problems, {})
        raise typer.Exit(1)


def _frontier_json(result) -> dict[str, object]:  # type: ignore[no-untyped-def]
    from puzzledsl.cli import answers

    points = [{"target": p.target, **answers.as_json(p.result, 0.0)} for p in result.points]
    return {"frontier": result.frontier, "search": result.search, "points": points}


def _shown(path: Path) -> str:
    """A path from the current directory, where it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _solved(ctx: Context, name: str) -> tuple[SearchResult, float]:
    """Solve one search anew; its result and how long that took, in seconds."""
    from puzzledsl.ir.tables import SearchResult
    from puzzledsl.runs import tasks
    from puzzledsl.runs.execute import execute

    began = time.monotonic()
    execute(ctx, [tasks.solve(ctx, name)], force=True)
    result = ctx.load(ctx.build.solution(name), SearchResult, "solve", name)
    return result, time.monotonic() - began


def _baselines(ctx: Context, name: str) -> list[tuple[str, SearchResult]]:
    """Every baseline under a search's requirements."""
    from puzzledsl.runs import readings
    from puzzledsl.search.baselines import solve_baselines

    space = ctx.program.searches[name].space
    found = solve_baselines(ctx.program, name, readings.costs_of(ctx, space), readings.scores_of(ctx, name))
    return list(found.items())


def _ready(ctx: Context, names: list[str]) -> tuple[list[str], list[Diagnostic]]:
    """The searches whose tables are all there, and a diagnostic for each of the others."""
    from puzzledsl.runs.targets import not_ready

    ready: list[str] = []
    problems: list[Diagnostic] = []
    for name in names:
        problem = not_ready(ctx, name)
        if problem is None:
            ready.append(name)
        else:
            problems.append(problem)
    return ready, problems
