"""`hardware h = measured(...)`, and the check of its engine against the spaces that are searched on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from puzzledsl.alternatives.support import Absent
from puzzledsl.base.diagnostics import Diagnostic, Label
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.base.units import BYTES, DOLLARS_PER_S, POWER, Dimension
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.engine_errors import (
    EngineLacksAlternative,
    EngineLacksType,
    NotOfPyTorch,
)
from puzzledsl.checker.diagnostics.stage_errors import SeveralGpus
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.ir.runtimes import Fit, engine_of, fit_in
from puzzledsl.ir.source_location import span_of
from puzzledsl.language.engines import ENGINES, TORCH, Engine

MAX_GPUS = 1024
MAX_THREADS = 4096


def lower_measured(ctx: Context, symbol: Symbol, settings: Settings) -> nodes.MeasuredHardware | None:
    """`measured(engine: llama_cpp, dtype: q8_0, threads: 4)`."""
    memory = settings.quantity("memory", BYTES, Fraction(0), Fraction(1)) if settings.has("memory") else None
    engine = ENGINES[settings.word("engine", TORCH)]
    spec = nodes.MeasuredHardware(
        device=settings.word("device", "cpu"),
        dtype=settings.word("dtype", engine.dtype),
        gpus=settings.whole("gpus", 1, 1, MAX_GPUS),
        memory_bytes=None if memory is None else int(memory),
        engine=engine.name,
        usd_per_s=stated(settings, "price", DOLLARS_PER_S),
        watts=stated(settings, "power", POWER),
        threads=settings.whole("threads", 1, 1, MAX_THREADS) if settings.has("threads") else None,
    )
    if settings.failed:
        return None
    name, problems = ctx.name_of(symbol), list[Diagnostic]()
    if spec.gpus > 1:
        problems.append(SeveralGpus(settings.place("gpus"), name=name, gpus=spec.gpus))
    for key, value, known in (
        ("dtype", spec.dtype, tuple(engine.weights)),
        ("device", spec.device, engine.devices),
    ):
        if value not in known:
            problems.append(_lacks(settings, engine, key, value, known))
    if spec.threads is not None and engine.name == TORCH:
        problems.append(NotOfPyTorch(settings.place("threads"), name=name))
    for problem in problems:
        ctx.report(problem)
    return None if problems else spec


def stated(settings: Settings, key: str, dimension: Dimension) -> Fraction | None:
    """Return a price or a power where it is stated."""
    return settings.quantity(key, dimension, Fraction(0), Fraction(0)) if settings.has(key) else None


def _lacks(
    settings: Settings, engine: Engine, key: str, value: str, known: tuple[str, ...]
) -> EngineLacksType:
    same = {"fp32": "f32", "fp16": "f16", "f32": "fp32", "f16": "fp16"}.get(value)
    help = f"it has {', '.join(f'`{word}`' for word in known)}"
    if same in known:
        help = f"it calls it `{same}`: write `{key}: {same}`"
    return EngineLacksType(settings.place(key), engine=engine.title, key=key, value=value, help=help)


def check_engines(program: nodes.Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Return an error for each searched space with alternatives that the engine of one of the search's scenarios lacks."""
    searched: dict[tuple[str, str], nodes.Where] = {}
    for search in program.searches.values():
        for name in _scenarios(program, search):
            searched.setdefault((search.space, name), search.where)
    for frontier in program.frontiers.values():
        for name in _scenarios(program, frontier):
            searched.setdefault((program.searches[frontier.search].space, name), frontier.where)
    found: list[Diagnostic] = []
    for (space, scenario), where in searched.items():
        hardware = program.hardware[program.scenarios[scenario].hardware]
        engine = engine_of(hardware)
        if engine is not None and any((fitted := fit_in(program, space, engine)).absent):
            span = span_of(hardware.where, files.get(hardware.where.file))
            label = Label(span_of(where, files.get(where.file)), f"searches `{space}` by `{scenario}`")
            what, reason = next(_absent(fitted))
            found.append(
                EngineLacksAlternative(
                    span, secondary=[label], engine=engine.title, what=what, space=space, reason=reason
                )
            )
    return found


def _scenarios(program: nodes.Program, node: nodes.Search | nodes.Frontier) -> Iterator[str]:
    return (name for name in dict.fromkeys(references(node)) if name in program.scenarios)


def _absent(fitted: Fit) -> Iterator[tuple[str, str]]:
    """Yield what is absent in words, with the reason."""
    for what, support in fitted.model:
        if isinstance(support, Absent):
            yield what, support.reason
    for lack in fitted.lacks:
        if isinstance(lack.support, Absent):
            yield f"`{lack.alternative.name}` in {layers_in_words(list(lack.layers))}", lack.support.reason
