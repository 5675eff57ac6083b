"""`pzl verify-export`: compare a child's outputs in third-party engines with a reference.

`pzl verify-load`: serve a search's child and its parent under traffic in their engine, and compare with the simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.base.phrases import aligned
from puzzledsl.base.units import REQ_PER_S, TIME, format_quantity
from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption, on_program

if TYPE_CHECKING:
    from puzzledsl.ir.tables import EngineCheck, EngineName, LoadCheck
    from puzzledsl.pipeline.context import Context
    from puzzledsl.serving.load import LoadBench

ENGINES = ("transformers", "llama_cpp", "mlx", "vllm")


RUNTIME_HELP = "`all` installed engines, or a list such as transformers,llama_cpp,mlx,vllm."
TRUST_HELP = "Run code in DIR that is not, byte for byte, what puzzledsl writes there."
GGUF = "Run this GGUF file of DIR's model in llama.cpp, and compare it with DIR's model with the file's own weights."


def verify_export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A child's directory (or a parent's).")],
    runtime: Annotated[str, typer.Option(metavar="NAMES", help=RUNTIME_HELP)] = "all",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help=TRUST_HELP)] = False,
    gguf: Annotated[Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help=GGUF)] = None,
    json: JsonOption = False,
) -> None:
    """Run an exported child in each engine and compare logits and greedy tokens with a float64 reference.

    Code in DIR that puzzledsl did not write is refused, and named (E0741).
    Exits with 1 if an engine returns other numbers, crashes, or is named and not installed.
    """
    from puzzledsl.export.verify import verify, verify_gguf
    from puzzledsl.ir.tables import EngineCheck
    from puzzledsl.pipeline.process import Reporter

    engines = _chosen(runtime if gguf is None else "llama_cpp")
    _refuse_absent(engines if runtime != "all" or gguf is not None else [])
    with Reporter(None) as progress:
        if gguf is None:
            results = verify(directory, engines, progress, trust=trust_remote_code)
        else:
            results = (verify_gguf(directory, gguf, progress),)
    check = EngineCheck(name=directory.resolve().name, results=results)
    loading.show(json, lambda: check.model_dump(mode="json"), lambda: "\n".join(_export_lines(check)))
    statuses = {result.status for result in check.results}
    if statuses & {"differs", "crashed"} or "equal" not in statuses:
        raise typer.Exit(1)


def _chosen(runtime: str) -> list[EngineName]:
    names = list(ENGINES) if runtime == "all" else [name.strip() for name in runtime.split(",")]
    for name in names:
        if name not in ENGINES:
            known = ", ".join(ENGINES)
            raise typer.BadParameter(f"`{name}` is no engine; engines: all, {known}", param_hint="--runtime")
    return [name for name in ENGINES if name in names]  # type: ignore[misc]


def _refuse_absent(engines: list[EngineName]) -> None:
    """Raise DiagnosticError (NoSuchEngine) if one of the engines is not installed."""
    from puzzledsl.child.definition import NoSuchEngine
    from puzzledsl.export.engines.ask import python_of
    from puzzledsl.ir.engines import RUNTIMES

    cure = {"vllm": "`scripts/vllm_env.sh` makes an environment with it"}
    helps = ((name, cure.get(name, "pip install 'puzzledsl[runtimes]'")) for name in engines)
    absent = [(RUNTIMES[name].title, help) for name, help in helps if python_of(name) is None]
    if absent:
        raise DiagnosticError(*(NoSuchEngine(None, title=title, help=help) for title, help in absent))


def _export_lines(check: EngineCheck) -> list[str]:
    from puzzledsl.ir.engines import RUNTIMES

    lines = [f"{check.name} against a float64 reference:"]
    for result in check.results:
        title = f"  {RUNTIMES[result.engine].title:<14}"
        if result.max_delta is None:
            lines.append(f"{title} {result.status}: {result.reason}")
        else:
            lines.append(
                f"{title} {result.status:<8} max |delta logit| {result.max_delta:.1e} of {result.largest:.3g}, "
                f"greedy tokens {result.same}/{result.tokens}  ({result.version})"
            )
        if result.error is not None and result.own_error is not None:
            own = f"of llama.cpp's own 8-bit file of the same weights {result.own_error:.2%}"
            lines.append(f"  relative error {result.error:.2%}; {own}")
    return lines


SCENARIO_HELP = "The scenario under traffic; needed where there are several."
SHARES_HELP = "Rates, as shares of what each model is predicted to sustain."
SECONDS_HELP = "Seconds in which requests arrive, at each rate."
SERVER_HELP = (
    "Serves `{model}` at `{port}`, with `{most}` sequences of `{context}` tokens, in llama-server's or "
    "OpenAI's protocol; default: llama-server of `make llama`, or vLLM."
)


@on_program()
def verify_load(
    ctx: Context,
    search: Annotated[list[str], typer.Argument(metavar="SEARCH...", help="Solved searches of one space.")],
    scenario: Annotated[str | None, typer.Option(metavar="NAME", help=SCENARIO_HELP)] = None,
    shares: Annotated[str, typer.Option(metavar="LIST", help=SHARES_HELP)] = "30%,60%,85%",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Draws of arrivals at each rate.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help=SECONDS_HELP)] = 60,
    server: Annotated[str | None, typer.Option(metavar="COMMAND", help=SERVER_HELP)] = None,
    json: JsonOption = False,
) -> None:
    """Serve parent and child, send requests that arrive at random, and show latencies predicted and measured.

    The simulation replays the very arrivals and lengths, at the pace of the machine meanwhile. Needs measured costs
    and a solved search; weights are random. Interrupt it at any moment: the same command goes on from there.
    """
    from puzzledsl.ir.base import span_of
    from puzzledsl.measure.errors import NotServed
    from puzzledsl.pipeline.process import Reporter
    from puzzledsl.serving.load import LoadFailed

    try:
        parts = [float(part.strip().removesuffix("%")) / 100 for part in shares.split(",")]
    except ValueError:
        parts = []
    if not parts or min(parts) <= 0:
        raise typer.BadParameter(f"`{shares}` is no list such as 30%,60%", param_hint="--shares")
    bench = _bench(ctx, search, scenario, server, seconds)
    with Reporter(None) as progress:
        try:
            checks = bench.check(parts, range(seeds), ctx.build.work("load", bench.scenario), progress)
        except LoadFailed as error:
            where = span_of(ctx.program.scenarios[bench.scenario].where)
            raise DiagnosticError(NotServed(where, name=bench.scenario, reason=str(error))) from None
    for name, check in checks.items():
        write_text(ctx.build.load(name), check.canonical_json())
    lines = (line for check in checks.values() for line in _load_lines(check))
    loading.show(json, lambda: [c.model_dump(mode="json") for c in checks.values()], lambda: "\n".join(lines))


def _bench(
    ctx: Context, searches: list[str], scenario: str | None, server: str | None, seconds: float
) -> LoadBench:
    """Return the bench that serves the models. Raises DiagnosticError for what is not declared, solved, measured or installed."""
    from puzzledsl.ir.base import span_of
    from puzzledsl.ir.measured_engines import TORCH
    from puzzledsl.ir.nodes import MeasuredHardware
    from puzzledsl.measure.errors import NoServer
    from puzzledsl.pipeline import inputs
    from puzzledsl.pipeline.compile import chosen
    from puzzledsl.serving.load import LoadBench, server_command

    program = ctx.program
    searches = chosen("search", program.searches, searches, ctx.file)
    busy = {name: each for name, each in program.scenarios.items() if each.traffic is not None}
    here = busy[chosen("scenario under traffic", busy, [scenario] if scenario else None, ctx.file)[0]]
    spec, where = program.hardware[here.hardware].spec, span_of(here.where)
    if not isinstance(spec, MeasuredHardware) or spec.engine == TORCH:
        help = "measure it in one: `hardware h = measured(engine: llama_cpp)`"
        raise DiagnosticError(NoServer(where, name=here.name, help=help))
    if (command := server or server_command(spec.engine)) is None:
        help = "`make llama` builds llama-server, `make vllm` installs vLLM; or name one: `--server COMMAND`"
        raise DiagnosticError(NoServer(where, name=here.name, help=help))
    space, *others = dict.fromkeys(program.searches[search].space for search in searches)
    if others:
        message = f"searches of one space, not of {space} and {others[0]}"
        raise typer.BadParameter(message, param_hint="SEARCH")
    children = {search: inputs.child_so_far(ctx, search).layers for search in searches}
    ctx.made("measure", space, "the costs")
    listed, parent_dir = inputs.costs_of(ctx, space).scenarios, ctx.parent_directory(space, "verify-load")
    return LoadBench(program, here.name, listed[here.name], children, parent_dir, command, seconds)


def _load_lines(check: LoadCheck) -> Iterator[str]:
    """Yield the lines of a table: each run's figures as `predicted / measured (difference in %)`, and what `pace` means."""
    names = ("rate", "ttft", "p50_ttft", "p95_ttft", "tpot", "p50_tpot", "p95_tpot")
    rows = [["", "asked", "seed", "requests", "pace", *names]]
    for run in check.runs:
        head = [run.model, format_quantity(run.asked, REQ_PER_S, 3), str(run.seed), str(run.requests)]
        head.append(f"{run.prompt_pace:.2f}, {run.token_pace:.2f}")
        cells = []
        for name in names:
            unit, guess, real = REQ_PER_S if name == "rate" else TIME, run.predicted[name], run.measured[name]
            apart = f" ({guess / real - 1:+.0%})" if real else ""
            cells.append(f"{format_quantity(guess, unit, 3)} / {format_quantity(real, unit, 3)}{apart}")
        rows.append([*head, *cells])
    yield f"{check.search} in {check.engine}, {check.scenario}: predicted / measured, at most {check.at_most} at once"
    yield from aligned(rows, "<>")
    yield "pace: times as long as in the costs that a lone request's prompt and token would have taken then; predictions count it"
