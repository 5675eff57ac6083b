"""Warnings about measured times: a busy machine, a parent unlike plain `generate`, a parent that is slower or faster now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.units import TIME, format_quantity
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import CellTiming, CostTable, Evaluation, ModelFigures
from puzzledsl.pipeline.context import Context

NS_PER_S = 10**9
APART = 0.10
"""Share by which the parent's time may differ from plain `generate`."""
GENERATE_NS = 1e6
"""Time of `generate` itself in a step, by which it may differ too."""
SPREAD = 0.15
"""Robust standard deviation of the parent's time between rounds, as a share, on a quiet machine at most."""
DRIFT = 0.20
"""Share by which the parent's time in an evaluation may differ from the cost table's."""
PARENT = "parent"


def doubtful_timings(ctx: Context, spaces: Sequence[str]) -> list[Diagnostic]:
    """Return a warning for each scenario of a measured table whose times are in doubt."""
    from puzzledsl.measure.errors import BusyMachine, TimedUnlikePlain

    found: list[Diagnostic] = []
    for timing in _timings(ctx, spaces):
        said: dict[str, Any] = {"scenario": timing.scenario, "batch": timing.batch, "file": ctx.file.name}
        span = _span(ctx, timing.scenario)
        for phase, apart in _apart(timing):
            words = f"{abs(apart):.0%} {'longer' if apart > 0 else 'less'}"
            found.append(TimedUnlikePlain(span, phase=phase, apart=words, **said))
        for phase, spread in (("prefill", timing.prefill_spread), ("decode step", timing.decode_spread)):
            if spread > SPREAD:
                found.append(BusyMachine(span, phase=phase, spread=f"{spread:.0%}", **said))
    return found


def drifted_parents(ctx: Context, evals: Sequence[str]) -> list[Diagnostic]:
    """Return a warning for each finished evaluation in which the parent's time is far from that in the cost table."""
    from puzzledsl.measure.errors import ParentDrifted

    known = {(t.scenario, t.batch): t for t in _timings(ctx, list(ctx.program.spaces))}
    found: list[Diagnostic] = []
    for name in evals:
        path = ctx.build.evaluation(name)
        if not path.is_file():
            continue
        models = ctx.load(path, Evaluation, "eval", name).models
        parent = next((model for model in models if model.model == PARENT), None)
        for (scenario, batch), timing in known.items():
            if parent is None or batch != _evaluated_batch(ctx, scenario):
                continue
            for phase, now, then in _times(ctx, parent, scenario, batch, timing):
                if abs(now / then - 1) > DRIFT:
                    found.append(
                        ParentDrifted(
                            span_of(ctx.program.evals[name].where),
                            scenario=scenario,
                            phase=phase,
                            now=format_quantity(now, TIME),
                            then=format_quantity(then, TIME),
                            eval=name,
                            file=ctx.file.name,
                        )
                    )
    return found


def _timings(ctx: Context, spaces: Sequence[str]) -> Iterator[CellTiming]:
    for space in spaces:
        path = ctx.build.measured_costs(space)
        if path.is_file():
            table = ctx.load(path, CostTable, "measure", space)
            yield from (t for t in table.timings if t.scenario in ctx.program.scenarios)


def _apart(timing: CellTiming) -> Iterator[tuple[str, float]]:
    """Yield the phases whose times differ from plain `generate` by too much, with timed / plain - 1."""
    for phase, own_ns, apart in (
        ("prefill", timing.parent_prefill_ns, timing.plain_prefill),
        ("a decode step", timing.parent_decode_ns, timing.plain_decode),
    ):
        if apart is not None and abs(apart) > APART and abs(apart) * own_ns > GENERATE_NS:
            yield phase, apart


def _evaluated_batch(ctx: Context, scenario: str) -> int:
    return max(ctx.program.scenarios[scenario].batches, default=1)


def _times(
    ctx: Context, parent: ModelFigures, scenario: str, batch: int, timing: CellTiming
) -> Iterator[tuple[str, float, float]]:
    """Yield the seconds of a prefill and of a decode step: in the evaluation, and in the cost table."""
    tokens = batch * ctx.program.scenarios[scenario].prompt
    for phase, key, amount, then_ns in (
        ("prefill", "prefill_tokens_per_s", tokens, timing.parent_prefill_ns),
        ("a decode step", "decode_tokens_per_s", batch, timing.parent_decode_ns),
    ):
        figure = parent.figures.get(f"{scenario}.{key}")
        if figure is not None and figure.value > 0:
            yield phase, amount / figure.value, then_ns / NS_PER_S


def _span(ctx: Context, scenario: str) -> Span:
    return span_of(ctx.program.scenarios[scenario].where)
