"""Costs of alternatives in a program's scenarios: parameters, bytes and time, if the hardware is an analytic profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.units import BYTES, COUNT, TIME, Dimension, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.checker.spaces.space_info import all_parent
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.roofline import NS_PER_S, sub_block_cost
from puzzledsl.costs.table import roofline_costs
from puzzledsl.ir import nodes
from puzzledsl.ir.metrics import METRICS, metrics_of
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Scenario, Shape, Space
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.server.document import Document
from puzzledsl.server.values import scope_within
from puzzledsl.syntax import tree

MOST_ALTERNATIVES = 12
MOST_SCENARIOS = 4


@dataclass(frozen=True, slots=True)
class Workplace:
    """A scenario at one batch, with its hardware profile."""

    scenario: Scenario
    hardware: RooflineHardware
    batch: int

    @property
    def caption(self) -> str:
        """Return a caption such as ``**chat** on `h100`: batch 256, 128 -> 1024``."""
        tokens = f"{self.scenario.prompt} -> {self.scenario.output}"
        return f"**{self.scenario.name}** on `{self.scenario.hardware}`: batch {self.batch}, {tokens}"


def workplaces(ctx: Context, shape: Shape) -> list[Workplace]:
    """Return the scenarios with analytic costs, each at its largest batch (`auto`: the largest that fits)."""
    found: list[Workplace] = []
    for symbol in ctx.root.names.values():
        scenario = ctx.lowered.get(symbol) if isinstance(symbol, Symbol) else None
        if isinstance(scenario, Scenario):
            hardware = _hardware(ctx, scenario)
            if isinstance(hardware, RooflineHardware):
                found.append(Workplace(scenario, hardware, _batch(scenario, hardware, shape)))
    return found[:MOST_SCENARIOS]


def _hardware(ctx: Context, scenario: Scenario) -> object:
    for node in ctx.lowered.values():
        if isinstance(node, nodes.Hardware) and node.name == scenario.hardware:
            return node.spec
    return None


def _batch(scenario: Scenario, hardware: RooflineHardware, shape: Shape) -> int:
    if scenario.batches:
        return max(scenario.batches)
    tables = roofline_costs(hardware, shape, _all_parent(scenario, shape), scenario)
    return tables[-1].batch if tables else 1


def _all_parent(scenario: Scenario, shape: Shape) -> Space:
    return Space(name="", parent="", layers=(LayerChoice.of_parent(),) * shape.layers, where=scenario.where)


# ---------------------------------------------------------------- tables


Here = tuple[Alternative, Shape]
"""An alternative, and the shape of a layer that can have it."""


def cost_tables(ctx: Context, shape: Shape, alternatives: Sequence[Here]) -> str:
    """Return the costs of alternatives as Markdown, one table per scenario; only parameters if no cost is analytic."""
    shown = alternatives[:MOST_ALTERNATIVES]
    more = len(alternatives) - len(shown)
    tail = f"\n\n… and {more} more" if more > 0 else ""
    places = workplaces(ctx, shape)
    if not places:
        rows = [(a.name, _amount(a.params(own), COUNT)) for a, own in shown]
        return _table(("a layer", "parameters"), rows) + tail
    return "\n\n".join(_at(place, shown) for place in places) + tail


def _at(place: Workplace, alternatives: Iterable[Here]) -> str:
    work = Workload(place.batch, place.scenario.prompt, place.scenario.output)
    rows: list[tuple[str, ...]] = []
    for alternative, own in alternatives:
        cost = sub_block_cost(place.hardware, own, alternative, work)
        latency_ns = cost.prefill_ns + work.output * cost.decode_ns
        rows.append(
            (
                alternative.name,
                _amount(cost.params, COUNT),
                _amount(cost.weights_bytes, BYTES),
                _amount(cost.kv_cache_bytes, BYTES),
                _amount(Fraction(latency_ns, NS_PER_S), TIME),
            )
        )
    head = ("a layer", "parameters", "weights", "KV cache", "latency")
    return f"{place.caption}\n\n{_table(head, rows)}"


def _amount(value: int | Fraction, dimension: Dimension) -> str:
    return format_quantity(Fraction(value), dimension, 3) if value else "0"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, (":--", *("--:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# ---------------------------------------------------------------- which alternatives, which parent


def shape_for(document: Document, within: str) -> Shape | None:
    """Return the parent's shape of the space that the declaration `within` is about; else of the program's only parent."""
    ctx = document.inspected[1]
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
    ctx, shape = document.inspected[1], shape_for(document, within)
    if ctx is None or shape is None:
        return None
    scratch = all_parent("", "", "", shape)
    scope = scope_within(ctx, within)
    found = ChoiceReader(ctx, scratch).alternatives(expr, scope, sub_block, scratch.all_layers, each=False)
    firsts: dict[Alternative, Shape] = {}
    for layer, choice in sorted(found.items()):
        for alternative in choice:
            firsts.setdefault(alternative, shape.at(layer))
    return shape, list(firsts.items())


def parent_metric(document: Document, scenario: str, metric: str, within: str) -> str:
    """Return a scenario's metric for the unchanged parent; empty if its costs are not analytic."""
    ctx, shape = document.inspected[1], shape_for(document, within)
    if ctx is None or shape is None:
        return ""
    for place in workplaces(ctx, shape):
        if place.scenario.name == scenario:
            return _parent_metric(place, shape, metric)
    return ""


def _parent_metric(place: Workplace, shape: Shape, metric: str) -> str:
    fixed = place.scenario.model_copy(update={"batches": (place.batch,)})
    (costs,) = roofline_costs(place.hardware, shape, _all_parent(fixed, shape), fixed)
    parent = LayerAssignment(attention="parent", ffn="parent")
    found = metrics_of(costs, [parent] * shape.layers)[metric]
    return f"the parent: {format_quantity(found, METRICS[metric])} at batch {place.batch}"
