"""`pzl verify-load`: a search's child and its parent under traffic in their engine, beside what the simulation predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.loading import BuildOption, FileArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from puzzledsl.ir.tables import LoadCheck
    from puzzledsl.pipeline.context import Context
    from puzzledsl.serving.load import LoadBench


def verify_load(
    file: FileArgument,
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="A solved search.")],
    scenario: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The scenario under traffic; needed where there are several."),
    ] = None,
    shares: Annotated[
        str, typer.Option(metavar="LIST", help="Rates, as shares of what each model is predicted to sustain.")
    ] = "30%,60%,85%",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of arrivals at each rate.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=1, help="Seconds in which requests arrive, at each rate.")
    ] = 60,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Serves `{model}` at `{port}`, with `{most}` sequences of `{context}` tokens, in llama-server's or OpenAI's "
            "protocol; default: llama-server of `make llama`, or vLLM.",
        ),
    ] = None,
    build: BuildOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Serve parent and child, send requests that arrive at random, and show latencies predicted and measured.

    The simulation replays the very arrivals and lengths. Needs measured costs and a solved search; weights are random.
    """
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.base.files import write_text
    from puzzledsl.ir.base import span_of
    from puzzledsl.pipeline.process.reporter import Reporter
    from puzzledsl.serving.errors import NotServed
    from puzzledsl.serving.load import LoadFailed

    try:
        parts = [float(part.strip().removesuffix("%")) / 100 for part in shares.split(",")]
    except ValueError:
        parts = []
    if not parts or min(parts) <= 0:
        raise typer.BadParameter(f"`{shares}` is no list such as 30%,60%", param_hint="--shares")
    ctx = loading.context(file, set_, build)
    bench = _bench(ctx, search, scenario, server, seconds)
    with Reporter(None) as progress:
        try:
            check = bench.check(parts, range(seeds), progress)
        except LoadFailed as error:
            where = span_of(ctx.program.scenarios[bench.scenario].where)
            raise DiagnosticError(NotServed(where, name=bench.scenario, reason=str(error))) from None
    write_text(ctx.build.load(search), check.canonical_json())
    if json:
        loading.print_json(check.model_dump(mode="json"))
    else:
        print("\n".join(_lines(check)))


def _bench(ctx: Context, search: str, scenario: str | None, server: str | None, seconds: float) -> LoadBench:
    """Return what is served. Raises DiagnosticError: what is not declared, solved, measured or installed."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.ir.base import span_of
    from puzzledsl.ir.measured_engines import TORCH
    from puzzledsl.ir.nodes import MeasuredHardware
    from puzzledsl.pipeline import inputs
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.serving.errors import NoServer
    from puzzledsl.serving.load import LoadBench, server_command

    program = ctx.program
    (search,) = chosen("search", program.searches, [search], ctx.file)
    busy = {name: each for name, each in program.scenarios.items() if each.traffic is not None}
    here = busy[chosen("scenario under traffic", busy, [scenario] if scenario else None, ctx.file)[0]]
    spec, where = program.hardware[here.hardware].spec, span_of(here.where)
    if not isinstance(spec, MeasuredHardware) or spec.engine == TORCH:
        help = "measure it in one: `hardware h = measured(engine: llama_cpp)`"
        raise DiagnosticError(NoServer(where, name=here.name, help=help))
    if (command := server or server_command(spec.engine)) is None:
        help = "`make llama` builds llama-server, `make vllm` installs vLLM; or name one: `--server COMMAND`"
        raise DiagnosticError(NoServer(where, name=here.name, help=help))
    space, child = program.searches[search].space, inputs.child_so_far(ctx, search)
    ctx.made("measure", space, "the costs")
    return LoadBench(
        program=program,
        search=search,
        scenario=here.name,
        listed=inputs.costs_of(ctx, space).scenarios[here.name],
        child=child.layers,
        parent_dir=ctx.parent_directory(space, "verify-load"),
        command=command,
        seconds=seconds,
    )


def _lines(check: LoadCheck) -> Iterator[str]:
    """Yield a table: each run's figures as `predicted / measured`, and how far apart they are."""
    from puzzledsl.base.phrases import aligned
    from puzzledsl.base.units import REQ_PER_S, TIME, format_quantity

    names = ("rate", "ttft", "p50_ttft", "p95_ttft", "tpot", "p50_tpot", "p95_tpot")
    rows = [["", "asked", "seed", "requests", *names]]
    for run in check.runs:
        head = [run.model, format_quantity(run.asked, REQ_PER_S, 3), str(run.seed), str(run.requests)]
        cells = []
        for name in names:
            unit, guess, real = REQ_PER_S if name == "rate" else TIME, run.predicted[name], run.measured[name]
            apart = f" ({guess / real - 1:+.0%})" if real else ""
            cells.append(f"{format_quantity(guess, unit, 3)} / {format_quantity(real, unit, 3)}{apart}")
        rows.append([*head, *cells])
    yield f"{check.search} in {check.engine}, {check.scenario}: predicted / measured, at most {check.at_most} at once"
    yield from aligned(rows, "<" + ">" * (len(rows[0]) - 1))
