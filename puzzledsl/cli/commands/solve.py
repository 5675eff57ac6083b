"""`pzl solve` and `pzl frontier`: proven answers from tables, or an explanation of infeasibility. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from puzzledsl.cli.commands.why import why
from puzzledsl.cli.options import (
    BuildOption,
    FileArgument,
    JsonOption,
    NamesArgument,
    SetOption,
)

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
    from puzzledsl.cli import loading, output
    from puzzledsl.cli.text import answers
    from puzzledsl.ir.nodes import CpSat
    from puzzledsl.pipeline.execute import locked
    from puzzledsl.pipeline.solving import baselines_of, ready, solved
    from puzzledsl.pipeline.targets import chosen
    from puzzledsl.search.infeasible.verdicts import no_answer

    ctx = loading.context(file, set_, build)
    names = chosen("search", ctx.program.searches, searches, ctx.file)
    solvable, problems = ready(ctx, names)
    documents: list[dict[str, object]] = []
    texts: list[str] = []
    with locked(ctx):
        for name in solvable:
            search = ctx.program.searches[name]
            result, seconds = solved(ctx, name)
            documents.append(answers.as_json(result, seconds, refine=search.refine))
            if (problem := no_answer(ctx.program, result)) is not None:
                problems.append(problem)
            else:
                texts.append(answers.as_text(ctx.program, result, seconds))
            if baselines and isinstance(search.solver, CpSat):
                rows = [(name, result), *baselines_of(ctx, name).items()]
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
    from puzzledsl.cli import loading, output
    from puzzledsl.cli.text import answers
    from puzzledsl.pipeline.execute import locked
    from puzzledsl.pipeline.solving import ready, solved_frontier
    from puzzledsl.pipeline.targets import chosen

    ctx = loading.context(file, set_, build)
    names = chosen("frontier", ctx.program.frontiers, frontiers, ctx.file, "frontier")
    solvable, problems = [], []
    for name in names:
        _, waiting = ready(ctx, [ctx.program.frontiers[name].search])
        problems += waiting
        solvable += [] if waiting else [name]
    with locked(ctx):
        results = [solved_frontier(ctx, name) for name in solvable]
    if json:
        output.print_json([_frontier_json(result) for result in results])
    for result in [] if json else results:
        files = [ctx.build.frontier_csv(result.frontier), ctx.build.frontier_plot(result.frontier)]
        print(answers.frontier_text(ctx.program, result, [_shown(path) for path in files]))
    if problems:
        output.print_diagnostics(problems, {})
        raise typer.Exit(1)


def _frontier_json(result) -> dict[str, object]:  # type: ignore[no-untyped-def]
    from puzzledsl.cli.text import answers

    points = [{"target": p.target, **answers.as_json(p.result, 0.0)} for p in result.points]
    return {"frontier": result.frontier, "search": result.search, "points": points}


def _shown(path: Path) -> str:
    """A path from the current directory, where it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
