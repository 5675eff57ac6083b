"""Costs in the editor, by analytic profiles: alternatives, and the parent's metrics, in a program's scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.units import BYTES, COUNT, TIME, Dimension, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Symbol, all_parent
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.metrics import own_costs, whole_metrics
from puzzledsl.costs.roofline import NS_PER_S, sub_block_cost
from puzzledsl.costs.table import roofline_costs
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Scenario, Shape, Space
from puzzledsl.ir.tables import PARENT, ScenarioCosts
from puzzledsl.server.document import Document
from puzzledsl.syntax import tree

MOST_ALTERNATIVES = 12
MOST_SCENARIOS = 4
Here = tuple[Alternative, Shape]
"""An alternative, and the shape of a layer that can have it."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """A scenario at one batch, with its hardware profile."""

    scenario: Scenario
    hardware: RooflineHardware
    batch: int

    def cost(self, own: Shape, alternative: Alternative) -> tuple[int, int, int, Fraction]:
        """Return the parameters, bytes of weights, bytes of the KV cache and seconds of an alternative in a layer."""
        work = Workload(self.batch, self.scenario.prompt, self.scenario.output)
        cost = sub_block_cost(self.hardware, own, alternative, work)
        time_s = Fraction(cost.prefill_ns + work.output * cost.decode_ns, NS_PER_S)
        return cost.params, cost.weights_bytes, cost.kv_cache_bytes, time_s


def workplaces(ctx: Context, shape: Shape) -> list[Workplace]:
    """Return the scenarios with analytic costs, each at its largest batch (`auto`: the largest that fits)."""
    found: list[Workplace] = []
    specs = {n.name: n.spec for n in ctx.lowered.values() if isinstance(n, nodes.Hardware)}
    for symbol in ctx.root.names.values():
        scenario = ctx.lowered.get(symbol) if isinstance(symbol, Symbol) else None
        hardware = specs.get(scenario.hardware) if isinstance(scenario, Scenario) else None
        if isinstance(scenario, Scenario) and isinstance(hardware, RooflineHardware):
            batch = max(scenario.batches, default=0)
            if not batch:
                tables = _of_parent(hardware, shape, scenario)
                batch = tables[-1].batch if tables else 1
            found.append(Workplace(scenario, hardware, batch))
    return found[:MOST_SCENARIOS]


def _of_parent(hardware: RooflineHardware, shape: Shape, scenario: Scenario) -> Sequence[ScenarioCosts]:
    """Return the costs of a space that has the parent alone."""
    layers = (LayerChoice.of_parent(),) * shape.layers
    space = Space(name="", parent="", layers=layers, where=scenario.where)
    return roofline_costs(hardware, shape, space, scenario)


def cost_tables(ctx: Context, shape: Shape, alternatives: Sequence[Here]) -> str:
    """Return the costs of alternatives as Markdown, one table per scenario; only parameters if no cost is analytic."""
    shown = alternatives[:MOST_ALTERNATIVES]
    more = len(alternatives) - len(shown)
    tables: list[str] = []
    for place in workplaces(ctx, shape):
        rows = [("a layer", "parameters", "weights", "KV cache", "latency")]
        for alternative, own in shown:
            params, weights, kv_cache, time_s = place.cost(own, alternative)
            sizes = _amount(params, COUNT), _amount(weights, BYTES), _amount(kv_cache, BYTES)
            rows.append((alternative.name, *sizes, _amount(time_s, TIME)))
        scenario, tokens = place.scenario, f"{place.scenario.prompt} -> {place.scenario.output}"
        caption = f"**{scenario.name}** on `{scenario.hardware}`: batch {place.batch}, {tokens}"
        tables.append(f"{caption}\n\n{_table(rows)}")
    if not tables:
        counts = [(alternative.name, _amount(alternative.params(own), COUNT)) for alternative, own in shown]
        tables = [_table([("a layer", "parameters"), *counts])]
    return "\n\n".join(tables) + (f"\n\n… and {more} more" if more > 0 else "")


def _amount(value: int | Fraction, dimension: Dimension) -> str:
    return format_quantity(Fraction(value), dimension, 3) if value else "0"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table. The first is the head."""
    lines = [rows[0], (":--", *("--:" for _ in rows[0][1:])), *rows[1:]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _shape_for(ctx: Context | None, within: str) -> Shape | None:
    """Return the parent's shape of the space that the declaration `within` is about; else of the program's only parent."""
    if ctx is None:
        return None
    symbol = ctx.root.names.get(within)
    info = ctx.infos.get(symbol) if isinstance(symbol, Symbol) else None
    if info is not None and not info.guessed:
        return info.shape
    parents = [n for n in ctx.lowered.values() if isinstance(n, nodes.Parent)]
    return parents[0].shape if len(parents) == 1 else None


def alternatives_of(
    document: Document, expr: tree.Expr, within: str, sub_block: SubBlock
) -> tuple[Shape, list[Here]] | None:
    """Return the alternatives that an expression denotes for the parent of the enclosing declaration."""
    ctx = document.inspected[1]
    shape = _shape_for(ctx, within)
    if ctx is None or shape is None:
        return None
    scratch = all_parent("", "", "", shape)
    scope = document.scope_within(within)
    found = ChoiceReader(ctx, scratch).alternatives(expr, scope, sub_block, scratch.all_layers, each=False)
    firsts: dict[Alternative, Shape] = {}
    for layer, choice in sorted(found.items()):
        for alternative in choice:
            firsts.setdefault(alternative, shape.at(layer))
    return shape, list(firsts.items())


def parent_metric(document: Document, scenario: str, metric: str, within: str) -> tuple[str, int] | None:
    """Return a scenario's metric for the unchanged parent, and the batch; None if its costs are not analytic."""
    ctx = document.inspected[1]
    shape = _shape_for(ctx, within)
    places = workplaces(ctx, shape) if ctx is not None and shape is not None else ()
    place = next((p for p in places if p.scenario.name == scenario), None)
    if shape is None or place is None:
        return None
    layers = [PARENT] * shape.layers
    listed = _of_parent(place.hardware, shape, place.scenario)
    if place.scenario.traffic is None:
        listed = [costs for costs in listed if costs.batch == place.batch]
    own = own_costs(listed, layers)
    return format_quantity(whole_metrics(listed, layers, own)[metric], METRICS[metric].dimension), own.batch
