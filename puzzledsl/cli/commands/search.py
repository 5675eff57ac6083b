"""`pzl compile`, `cost`, `solve`, `frontier`, `why` and `explore`: from a program to its tables and answers, without torch."""

from __future__ import annotations

import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, cast

import typer

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.cli import loading
from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, NamesArgument, SetOption, on_program

if TYPE_CHECKING:
    from puzzledsl.alternatives.alternative import Site
    from puzzledsl.pipeline.context import Context


@on_program()
def compile_(ctx: Context, json: JsonOption = False) -> None:
    """Compile a program: IR, BLD plan, cost tables, and the CP-SAT model if scores exist.

    Writes ir.json, bld/NAME.jsonl (one job a line), costs/SPACE.json and search/NAME.pb into the build directory.
    """
    from puzzledsl.pipeline.compile import compile_program

    document, text = compile_program(ctx)
    loading.show(json, lambda: document, lambda: text)


SOLUTION_HELP = "The best child of a solved search, not the parent."
SCENARIO_HELP = "Only this scenario. May be repeated."


@on_program()
def cost(
    ctx: Context,
    solution: Annotated[str | None, typer.Option("--solution", metavar="SEARCH", help=SOLUTION_HELP)] = None,
    scenario: Annotated[list[str] | None, typer.Option(metavar="NAME", help=SCENARIO_HELP)] = None,
    json: JsonOption = False,
) -> None:
    """Show what each layer costs in each scenario, and the shares of time and bytes.

    Without --solution the parents are shown. Needs no weights. Measured scenarios appear after `pzl measure`.
    """
    from puzzledsl.costs.breakdown import as_text
    from puzzledsl.pipeline.text.child_text import breakdowns

    found = breakdowns(ctx, solution, scenario or ())
    loading.show(json, lambda: [one.as_json() for one in found], lambda: map(as_text, found))


def solve(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
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
    from puzzledsl.cli import answers
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.pipeline.execute import solved
    from puzzledsl.pipeline.process import holder_of, locked
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
            who = holder_of(ctx.build.root) or "another process"
            print(f"{who} works in {ctx.build.root}: answers are not kept", file=sys.stderr)
        for name in names:
            search = ctx.program.searches[name]
            try:
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
    if json or texts:
        loading.show(json, lambda: documents, lambda: texts)
    loading.end_with(problems)


@on_program()
def frontier(ctx: Context, frontiers: NamesArgument = None, json: JsonOption = False) -> None:
    """Solve frontiers: the best child at every value of one metric, each point with its proof.

    Writes search/NAME.csv (one row a point) beside search/NAME.json; the report draws the points.
    """
    from puzzledsl.cli import answers
    from puzzledsl.pipeline.compile import chosen, shown_path
    from puzzledsl.pipeline.execute import solved_frontier
    from puzzledsl.pipeline.process import locked

    names = chosen("frontier", ctx.program.frontiers, frontiers, ctx.file, "frontier")
    results, problems = [], list[Diagnostic]()
    with locked(ctx):
        for name in names:
            try:
                results.append(solved_frontier(ctx, name))
            except DiagnosticError as error:
                problems += error.diagnostics
    if json:
        loading.print_json([answers.frontier_json(result) for result in results])
    for result in [] if json else results:
        wrote = shown_path(ctx.build.frontier_csv(result.frontier))
        print(answers.frontier_text(ctx.program, result, wrote))
    loading.end_with(problems)


TIME_S = 60.0
PLACE = re.compile(r"(?:layers\s*\[\s*(\d+)\s*\]|(\d+))(?:\s*\.\s*(attention|ffn))?|(embedding|head)")

WHY_HELP = "The search. May be left out where there is one."
PLACE_HELP = (
    "One layer, sub-block or end: `layers[12].ffn`, `layers[12]`, `12`, `head`. Lists its alternatives."
)
TIME_HELP = "Time limit. A regret that is not proven by then is given as bounds."


@on_program()
def why(
    ctx: Context,
    search: Annotated[str | None, typer.Argument(metavar="[SEARCH]", help=WHY_HELP)] = None,
    place: Annotated[str | None, typer.Argument(metavar="PLACE", help=PLACE_HELP)] = None,
    json: JsonOption = False,
    time: Annotated[float, typer.Option("--time", metavar="SECONDS", min=0, help=TIME_HELP)] = TIME_S,
) -> None:
    """Explain the best child: the regret of every other choice, and the cost of each requirement.

    A regret is proven: it is how much worse the optimum gets if that alternative is fixed there and everything else is
    chosen anew; "cannot be met" if no such child meets the requirements. A requirement's margin is how much worse or
    better the optimum gets if its bound is moved by 1 % (a count by one), or if it is dropped.

    With --json one document: {"objective", "proven", "negligible",
    "sub_blocks": [{"layer", "sub_block", "chosen", "regrets": [{"alternative", "at_least", "at_most"}]}],
    "margins": [{"line", "text", "moves": [{"kind", "by", "bound", "at_least", "at_most"}]}]}. A regret is exact if
    both bounds are equal; null at both is "cannot be met", at "at_most" alone that no child was found in time.
    """
    from puzzledsl.cli.answers import why_as_text
    from puzzledsl.ir.tables import WhyResult
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.pipeline.execute import regrets_of
    from puzzledsl.search.infeasible.verdicts import no_answer

    searches = ctx.program.searches
    if search and place is None and search not in searches and PLACE.fullmatch(search.strip()):
        search, place = None, search
    if search is None and len(searches) > 1:
        message = f"which of the searches? {', '.join(searches)}"
        raise typer.BadParameter(message, param_hint="SEARCH")
    (name,) = chosen("search", searches, None if search is None else [search], ctx.file, "why")
    layer, sub_block = (None, None) if place is None else _place(ctx, name, place)
    found = regrets_of(ctx, name, layer, sub_block, time_s=time)
    if not isinstance(found, WhyResult):
        problem = no_answer(ctx.program, found, f"--time {max(1, round(4 * time))}", time)
        assert problem is not None, "a search with a solution has regrets"
        raise DiagnosticError(problem)
    as_text = partial(why_as_text, ctx.program, found, ctx.typed, is_whole=layer is None)
    loading.show(json, lambda: found.model_dump(mode="json"), as_text)


def _place(ctx: Context, search: str, text: str) -> tuple[int, Site | None]:
    """Return the layer and sub-block (None: both) of a PLACE; of an end, the layer count and its name. Else a usage error."""
    match = PLACE.fullmatch(text.strip())
    if match is None:
        message = f"`{text}` is no place; write `layers[12]`, `layers[12].ffn`, `12` or `head`"
        raise typer.BadParameter(message, param_hint="PLACE")
    space = ctx.program.spaces[ctx.program.searches[search].space]
    count = len(space.layers)
    if match[4] and space.ends is None:
        message = f"`space {space.name}` gives the {match[4]} no choice"
        raise typer.BadParameter(message, param_hint="PLACE")
    if match[4]:
        return count, cast("Site", match[4])
    if (layer := int(match[1] or match[2])) >= count:
        message = f"there is no layer {layer}: the layers are 0 to {count - 1}"
        raise typer.BadParameter(message, param_hint="PLACE")
    return layer, cast("Site | None", match[3])


SEARCH_HELP = "The search. Default: the first that can be solved."
PORT_HELP = "Port of 127.0.0.1. Default: a free one."
ADDRESS_HELP = 'Print {"address"} as one JSON document; open no browser.'


def explore(
    file: FileArgument,
    search: Annotated[str | None, typer.Argument(metavar="[SEARCH]", help=SEARCH_HELP)] = None,
    build: BuildOption = None,
    set_: SetOption = None,
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help=PORT_HELP)] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address; open no browser.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help=ADDRESS_HELP)] = False,
) -> None:
    """Explore a search on a local page: move bounds, pin layers, and see the proven answer change.

    Every number in a `require` has a slider, every requirement a switch, every layer its alternatives with the proven cost
    of each. Conflicts are explained. "Copy" gives the changed statements. Nothing is
    written, and nothing leaves this machine.

    The page is served on 127.0.0.1, and its address has a token that every request must have. Ctrl-C ends it.
    Needs `pip install 'puzzledsl[explore]'`.
    """
    from puzzledsl.explore.serving import check_libraries, serve

    check_libraries()
    loading.check(file, set_)

    def started(address: str) -> None:
        loading.show(json, lambda: {"address": address}, lambda: f"{address}\nCtrl-C ends it.")
        sys.stdout.flush()

    params = loading.settings_of(set_)
    serve(file, search, build, params, port=port, started=started, browser=not (no_browser or json))
