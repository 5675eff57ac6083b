"""`pzl frontier`: the best child at every value of one metric, each point with its proof. Loads no torch."""

from __future__ import annotations

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, NamesArgument, SetOption


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
    from puzzledsl.cli import loading, output
    from puzzledsl.cli.text import answers
    from puzzledsl.pipeline.process.locks import locked
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
        output.print_json([answers.frontier_json(result) for result in results])
    for result in [] if json else results:
        files = [ctx.build.frontier_csv(result.frontier), ctx.build.frontier_plot(result.frontier)]
        print(answers.frontier_text(ctx.program, result, map(output.shown_path, files)))
    if problems:
        output.print_diagnostics(problems, {})
        raise typer.Exit(1)
