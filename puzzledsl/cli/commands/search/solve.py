"""`pzl compile`, `pzl cost`, `pzl solve` and `pzl frontier`: from a program to its tables and its answers, without torch."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, NamesArgument, SetOption


def compile_(
    file: FileArgument, build: BuildOption = None, set_: SetOption = None, json: JsonOption = False
) -> None:
    """Compile a program: IR, BLD plan, cost tables, and the CP-SAT model if scores exist.

    Writes ir.json, bld/NAME.jsonl (one job a line), costs/SPACE.json and search/NAME.pb into the build directory.
    """
    from puzzledsl.pipeline.compile import compile_program

    ctx = loading.context(file, set_, build)
    compiled = compile_program(ctx)
    if json:
        loading.print_json(asdict(compiled))
    else:
        print(compiled.as_text())


BaselinesOption = Annotated[
    bool,
    typer.Option("--baselines", help="Also solve every baseline under the same requirements, in one table."),
]


def solve(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
    baselines: BaselinesOption = False,
) -> None:
    """Solve searches: status, objective, proven bound and gap, and the child's layers and metrics.

    While another command works in the build directory, answers are shown and not kept.
    If scores or measurements are missing, the message names the command that makes them. If there is no solution, it names
    a smallest set of conflicting requirements, the best value of each, and a relaxation that has a solution.

    With --json one list: [{"search", "status": "optimal|feasible|infeasible|unknown", "objective", "bound", "gap",
    "seconds", "found_by", "proved_by", "solutions": [{"objective", "layers": [{"attention", "ffn"}], "metrics":
    {name: value}}], "conflict": [{"line", "text", "reachable"}]}], metrics in base units (bytes, seconds, tokens/s); and
    "refine" of a search that is refined: {"method", "children", "healed", "samples", "data"}. A search that could not be
    run is {"search", "status": "error", "diagnostics"}; mistakes of the program itself have "" as the search.
    """
    from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
    from puzzledsl.cli.text import answers
    from puzzledsl.ir.nodes import CpSat
    from puzzledsl.pipeline.compile import chosen, not_ready
    from puzzledsl.pipeline.execute import baselines_of, solved
    from puzzledsl.pipeline.process.locks import holder_of, locked
    from puzzledsl.search.infeasible.verdicts import no_answer

    try:
        ctx = loading.context(file, set_, build)
        names = chosen("search", ctx.program.searches, searches, ctx.file)
    except (loading.NotChecked, DiagnosticError) as error:
        if json:
            loading.print_json([answers.unsolved("", error.diagnostics)])
        raise
    documents: list[dict[str, object]] = []
    texts: list[str] = []
    problems: list[Diagnostic] = []
    with locked(ctx, needed=False) as keep:
        if not keep:
            print(
                f"{holder_of(ctx.build.root) or 'another process'} works in {ctx.build.root}: answers are not kept",
                file=sys.stderr,
            )
        for name in names:
            search = ctx.program.searches[name]
            try:
                if (missing := not_ready(ctx, name)) is not None:
                    raise DiagnosticError(missing)
                result, seconds = solved(ctx, name, keep=keep)
            except DiagnosticError as error:
                problems += error.diagnostics
                documents.append(answers.unsolved(name, error.diagnostics))
                continue
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
        loading.print_json(documents)
    elif texts:
        print("\n\n".join(texts))
    if problems:
        loading.print_diagnostics(problems, {})
        raise typer.Exit(1)


def frontier(
    file: FileArgument,
    frontiers: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Solve frontiers: the best child at every value of one metric, each point with its proof.

    Writes search/NAME.csv (one row a point) and search/NAME.svg (a plot any browser shows) beside search/NAME.json. With
    `children: N`, `pzl refine` measures N children at every point, writes refined/NAME.json, and the report draws them.
    """
    from puzzledsl.cli.text import answers
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.pipeline.execute import ready, solved_frontier
    from puzzledsl.pipeline.process.locks import locked

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
        loading.print_json([answers.frontier_json(result) for result in results])
    for result in [] if json else results:
        files = [ctx.build.frontier_csv(result.frontier), ctx.build.frontier_plot(result.frontier)]
        print(answers.frontier_text(ctx.program, result, map(loading.shown_path, files)))
    if problems:
        loading.print_diagnostics(problems, {})
        raise typer.Exit(1)


def cost(
    file: FileArgument,
    solution: Annotated[
        str | None,
        typer.Option(
            "--solution", metavar="SEARCH", help="The best child of a solved search, not the parent."
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME", help="Only this scenario. May be repeated."),
    ] = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show what each layer costs in each scenario, and the shares of time and bytes.

    Without --solution the parents are shown. Needs no weights. Measured scenarios appear after `pzl measure`.
    """
    from puzzledsl.costs.breakdown import as_text
    from puzzledsl.pipeline.text.refined_text import breakdowns

    ctx = loading.context(file, set_, build)
    found = breakdowns(ctx, solution, scenario or ())
    if json:
        loading.print_json([one.as_json() for one in found])
    else:
        print("\n\n".join(map(as_text, found)))
