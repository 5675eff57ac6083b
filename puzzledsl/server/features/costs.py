"""Costs in the editor: alternatives in a program's scenarios, and inlay hints of what each keeps of the parent.

Without an analytic hardware profile there are parameters alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lsprotocol import types

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.base.units import BYTES, COUNT, TIME, Dimension, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.scopes import LanguageWord
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.checker.spaces.space_info import all_parent
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.roofline import NS_PER_S, sub_block_cost
from puzzledsl.costs.table import roofline_costs
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.metrics import metrics_of
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Scenario, Shape, Space
from puzzledsl.ir.tables import LayerAssignment
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

    def cost(self, own: Shape, alternative: Alternative) -> tuple[int, int, int, int]:
        """Return the parameters, bytes of weights, bytes of the KV cache and nanoseconds of an alternative in a layer."""
        work = Workload(self.batch, self.scenario.prompt, self.scenario.output)
        cost = sub_block_cost(self.hardware, own, alternative, work)
        time_ns = cost.prefill_ns + work.output * cost.decode_ns
        return cost.params, cost.weights_bytes, cost.kv_cache_bytes, time_ns


def workplaces(ctx: Context, shape: Shape) -> list[Workplace]:
    """Return the scenarios with analytic costs, each at its largest batch (`auto`: the largest that fits)."""
    found: list[Workplace] = []
    specs = {n.name: n.spec for n in ctx.lowered.values() if isinstance(n, nodes.Hardware)}
    for symbol in ctx.root.names.values():
        scenario = ctx.lowered.get(symbol) if isinstance(symbol, Symbol) else None
        if isinstance(scenario, Scenario):
            hardware = specs.get(scenario.hardware)
            if isinstance(hardware, RooflineHardware):
                found.append(Workplace(scenario, hardware, _batch(scenario, hardware, shape)))
    return found[:MOST_SCENARIOS]


def _batch(scenario: Scenario, hardware: RooflineHardware, shape: Shape) -> int:
    if scenario.batches:
        return max(scenario.batches)
    tables = roofline_costs(hardware, shape, _all_parent(scenario, shape), scenario)
    return tables[-1].batch if tables else 1


def _all_parent(scenario: Scenario, shape: Shape) -> Space:
    return Space(name="", parent="", layers=(LayerChoice.of_parent(),) * shape.layers, where=scenario.where)


# ---------------------------------------------------------------- tables


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
    rows: list[tuple[str, ...]] = []
    for alternative, own in alternatives:
        params, weights, kv_cache, time_ns = place.cost(own, alternative)
        figures = ((params, COUNT), (weights, BYTES), (kv_cache, BYTES), (Fraction(time_ns, NS_PER_S), TIME))
        rows.append((alternative.name, *(_amount(value, dimension) for value, dimension in figures)))
    scenario = place.scenario
    tokens = f"{scenario.prompt} -> {scenario.output}"
    caption = f"**{scenario.name}** on `{scenario.hardware}`: batch {place.batch}, {tokens}"
    head = ("a layer", "parameters", "weights", "KV cache", "latency")
    return f"{caption}\n\n{_table(head, rows)}"


def _amount(value: int | Fraction, dimension: Dimension) -> str:
    return format_quantity(Fraction(value), dimension, 3) if value else "0"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, (":--", *("--:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# ---------------------------------------------------------------- which alternatives, which parent


def shape_for(ctx: Context, within: str) -> Shape | None:
    """Return the parent's shape of the space that the declaration `within` is about; else of the program's only parent."""
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
    shape = None if ctx is None else shape_for(ctx, within)
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


def parent_metric(document: Document, scenario: str, metric: str, within: str) -> str:
    """Return a scenario's metric for the unchanged parent; empty if its costs are not analytic."""
    ctx = document.inspected[1]
    shape = None if ctx is None else shape_for(ctx, within)
    if ctx is None or shape is None:
        return ""
    place = next((p for p in workplaces(ctx, shape) if p.scenario.name == scenario), None)
    if place is None:
        return ""
    fixed = place.scenario.model_copy(update={"batches": (place.batch,)})
    (costs,) = roofline_costs(place.hardware, shape, _all_parent(fixed, shape), fixed)
    parent = LayerAssignment(attention="parent", ffn="parent")
    found = metrics_of(costs, [parent] * shape.layers)[metric]
    return f"the parent: {format_quantity(found, METRICS[metric].dimension)} at batch {place.batch}"


# ---------------------------------------------------------------- inlay hints


def inlay_hints(document: Document, wanted: types.Range) -> list[types.InlayHint]:
    """Return the hints of the lines of a range. A hint says what is known without running anything; else there is none."""
    if document.inspected[1] is None:
        return []
    first, last = wanted.start.line + 1, wanted.end.line + 1
    items = [i for i in document.file.module.items if i.span.line <= last and first <= i.span.end_line]
    found = [*_metrics(document, items), *_options(document, items)]
    return [hint for hint in found if wanted.start.line <= hint.position.line <= wanted.end.line]


def _metrics(document: Document, items: Sequence[tree.Item]) -> Iterator[types.InlayHint]:
    """Yield the parent's value behind the first mention of each metric in a search."""
    told: set[tuple[str, str, str]] = set()
    for occurrence in document.names:
        word, item = occurrence.symbol, occurrence.item
        if not isinstance(word, LanguageWord) or word.category != "metric" or item not in items:
            continue
        key = (occurrence.within, word.owner, word.name)
        if not isinstance(item, tree.Decl) or item.kind.text != "search" or key in told:
            continue
        told.add(key)
        text = parent_metric(document, word.owner, word.name, occurrence.within)
        if text:
            value = text.removeprefix("the parent: ").partition(" at ")[0]
            yield _hint(document, occurrence.node, f"parent {value}", f"{word.name} of {text}")


def _options(document: Document, items: Sequence[tree.Item]) -> Iterator[types.InlayHint]:
    """Yield what each option of a space's choices keeps of the parent's sub-block."""
    decls = [i for i in items if isinstance(i, tree.Decl) and i.kind.text == "space"]
    for decl, statement in ((d, s) for d in decls for s in d.body or ()):
        if not isinstance(statement, tree.Assign) or not isinstance(statement.target, tree.Name):
            continue
        sub_block = next((part for part in SUB_BLOCKS if part == statement.target.text), None)
        value = statement.value
        if sub_block is None or isinstance(value, tree.Pattern | tree.PatternChoice):
            continue
        for option in value.options if isinstance(value, tree.Choice) else (value,):
            hint = _of_option(document, option, decl.name.text, sub_block)
            if hint is not None:
                yield hint


def _of_option(
    document: Document, option: tree.Expr, within: str, sub_block: SubBlock
) -> types.InlayHint | None:
    ctx, found = document.inspected[1], alternatives_of(document, option, within, sub_block)
    if ctx is None or found is None:
        return None
    shape, alternatives = found
    if all(alternative.kind == "noop" for alternative, _ in alternatives):
        return None
    whole = PARENTS[sub_block]
    params = [Fraction(a.params(own), whole.params(own)) for a, own in alternatives if whole.params(own) > 0]
    times: list[Fraction] = []
    place = next(iter(workplaces(ctx, shape)), None)
    if place is not None:
        pairs = [(place.cost(own, a)[-1], place.cost(own, whole)[-1]) for a, own in alternatives]
        times = [Fraction(one, all_) for one, all_ in pairs if all_]
    named = ((params, "params"), (times, "time"))
    label = ", ".join(f"{_percent(shares)} {name}" for shares, name in named if shares)
    if not label or {*params, *times} == {1}:  # the parent itself
        return None
    of = f"of the parent's {sub_block}" + (f", in `{place.scenario.name}`" if place is not None else "")
    return _hint(document, option, label, f"{label} {of}")


def _percent(shares: list[Fraction]) -> str:
    """Return the least and the greatest share: `25..87%`."""
    low, high = (f"{float(100 * share):.3g}" for share in (min(shares), max(shares)))
    return f"{low}%" if low == high else f"{low}..{high}%"


def _hint(document: Document, node: tree.Node, label: str, tooltip: str) -> types.InlayHint:
    at = document.lines.position(node.span.end_line, node.span.end_column)
    return types.InlayHint(at, label, padding_left=True, tooltip=tooltip)
