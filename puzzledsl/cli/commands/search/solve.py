"""`pzl solve`: proven answers from tables, or an explanation of infeasibility. Loads no torch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, NamesArgument, SetOption

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
    from puzzledsl.cli import loading, output
    from puzzledsl.cli.text import answers
    from puzzledsl.ir.nodes import CpSat
    from puzzledsl.pipeline.process.locks import holder_of, locked
    from puzzledsl.pipeline.solving import baselines_of, solved
    from puzzledsl.pipeline.targets import chosen, not_ready
    from puzzledsl.search.infeasible.verdicts import no_answer

    try:
        ctx = loading.context(file, set_, build)
        names = chosen("search", ctx.program.searches, searches, ctx.file)
    except (loading.NotChecked, DiagnosticError) as error:
        if json:
            output.print_json([answers.unsolved("", error.diagnostics)])
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
        output.print_json(documents)
    elif texts:
        print("\n\n".join(texts))
    if problems:
        output.print_diagnostics(problems, {})
        raise typer.Exit(1)
