"""`chat.memory`, `llama.layers`, `layers[3].ffn.width`: what follows a dot."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NoReturn

from puzzledsl.base.diagnostics import Args
from puzzledsl.base.settings import settings_of
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics.declaration_errors import MoneyNotStated
from puzzledsl.checker.diagnostics.type_errors import DiffersByLayer
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.layer_tables import BOTH
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import layer_fact, parent_fact
from puzzledsl.ir.metric_records import METRICS, STATED, Metric
from puzzledsl.ir.metrics import running_costs
from puzzledsl.language.calls import PARENT_FACTS, PARENT_LAYER_FACTS
from puzzledsl.language.kinds import HARDWARE_FACTS
from puzzledsl.language.words import LAYER_FACTS, SCENARIO_FACTS, SUB_BLOCK_FACTS, SUB_BLOCKS
from puzzledsl.syntax import tree


def attribute(ctx: Context, target: values.Value, node: tree.Attribute) -> values.Value:
    """`target.name`."""
    name, known, help = node.name.text, tuple[str, ...](), ""
    match target:
        case values.Ref(symbol=symbol):
            return _of_declaration(ctx, symbol, node)
        case values.Layers() if name in BOTH and target.indices:
            return values.SubBlocks(target.space, name, target.indices, target.single)
        case values.Layers(single=True) if name == "index" and target.indices:
            return Quantity(Fraction(target.indices[0]))
        case values.Layers(single=True) if name in ("params", "active_params") and target.indices:
            terms: dict[values.TermKey, Fraction] = {
                ("fact", part, name, target.indices[0]): Fraction(1) for part in BOTH
            }
            return values.Symbolic(terms, space=target.space)
        case values.Layers():
            known = tuple(LAYER_FACTS if target.single else SUB_BLOCKS)
            owner = next((part for part in BOTH if name in SUB_BLOCK_FACTS[part]), None)
            help = f"it is a figure of the {owner}: write `{owner}.{name}`" if owner else ""
        case values.SubBlocks(space=space, sub_block=part, indices=indices):
            if name not in SUB_BLOCK_FACTS[part]:
                _unknown(ctx, node, f"`{part}`", SUB_BLOCK_FACTS[part])
            if not target.single:
                return values.Facts(space, part, name, indices)
            return values.Symbolic({("fact", part, name, indices[0]): Fraction(1)}, space=space)
        case values.ParentLayer(shape=own) if name in PARENT_LAYER_FACTS:
            return _as_value(layer_fact(own, name))
        case values.ParentLayer():
            known = tuple(PARENT_LAYER_FACTS)
    return (
        values.POISON
        if target == values.POISON
        else _unknown(ctx, node, values.describe(target), known, help)
    )


def _as_value(fact: int | str | bool) -> values.Value:
    if isinstance(fact, bool):
        return values.Boolean(fact)
    return values.Text(fact) if isinstance(fact, str) else Quantity(Fraction(fact))


def _unknown(
    ctx: Context, node: tree.Attribute, thing: str, known: Iterable[str], help: str = ""
) -> NoReturn:
    listed = [f"`{name}`" for name in known][:16]
    near, help = closest(node.name.text, known), help or ("it has " + ", ".join(listed) if listed else "")
    said: Args = {"thing": thing, "name": node.name.text}
    raise ctx.refuse(name_errors.UnknownAttribute(node.name.span, near=near, help=help, **said))


# ---------------------------------------------------------------- declarations


def _of_declaration(ctx: Context, symbol: values.Symbol, node: tree.Attribute) -> values.Value:
    match symbol.kind:
        case "file":
            return _of_file(ctx, symbol, node)
        case "parent":
            return _of_parent(ctx, symbol, node)
        case "scenario":
            return _of_scenario(ctx, symbol, node)
        case "hardware":
            return _of_hardware(ctx, symbol, node)
        case _:
            help = f"metrics belong to a scenario: `SCENARIO.{node.name.text}`"
            thing = f"{symbol.kind} `{symbol.name}`"
            return _unknown(ctx, node, thing, (), help if node.name.text in METRICS else "")


def _of_file(ctx: Context, symbol: values.Symbol, node: tree.Attribute) -> values.Value:
    assert symbol.target is not None
    found = symbol.target.names.get(node.name.text)
    if found is None:
        if symbol.target.declares_unread(node.name.text):
            return values.POISON
        _unknown(ctx, node, f"`{symbol.target.shown}`", symbol.target.names)
    if not isinstance(found, values.Symbol):
        return found
    if isinstance(found.item, tree.Fn):
        return values.Function(found.item, values.Scope(found.file))
    if found.kind not in ("let", "param"):
        return values.Ref(found)
    return ctx.value(tree.Name(span=node.name.span, text=found.name), values.Scope(found.file))


def _of_parent(ctx: Context, symbol: values.Symbol, node: tree.Attribute) -> values.Value:
    name, thing = node.name.text, f"parent `{symbol.name}`"
    if name not in PARENT_FACTS:
        if ctx.busy and ctx.busy[-1].kind == "search" and name.endswith("layers"):
            help = "the parent's number is `layers`; count the child's: `count(attention is not noop) >= 20`"
            _unknown(ctx, node, thing, (), help)
        _unknown(ctx, node, thing, PARENT_FACTS)
    value = parent_fact(ctx.need(symbol, nodes.Parent).shape, name)
    if value is None:
        text, help = f"`{name}` of `{symbol.name}`", f"`{ctx.source(node.target.span)}.layers[0].{name}`"
        raise ctx.refuse(DiffersByLayer(node.name.span, what=text, help=f"name a layer: {help}"))
    return _as_value(value)


def _of_scenario(ctx: Context, symbol: values.Symbol, node: tree.Attribute) -> values.Value:
    name = node.name.text
    if name in SCENARIO_FACTS or name == "batch":
        scenario = ctx.need(symbol, nodes.Scenario)
        if name != "batch":
            return Quantity(Fraction(scenario.prompt if name == "prompt" else scenario.output))
        if len(scenario.batches) == 1:
            return Quantity(Fraction(scenario.batches[0]))
    metric = METRICS.get(name)
    if metric is None:
        _unknown(ctx, node, f"scenario `{symbol.name}`", (*METRICS, *SCENARIO_FACTS))
    if metric.needs:
        return _running_cost(ctx, symbol, node, metric)
    ctx.lower_later(symbol)
    return values.Symbolic({("metric", ctx.name_of(symbol), name): Fraction(1)}, dimension=metric.dimension)


_EXAMPLES = {"price": "2.5 USD/h", "power": "700W"}


def _running_cost(ctx: Context, symbol: values.Symbol, node: tree.Attribute, metric: Metric) -> values.Value:
    """`chat.cost_per_mtok`: a multiple of the latency at a given batch."""
    key = metric.needs
    scenario = ctx.need(symbol, nodes.Scenario)
    if scenario.hardware not in ctx.taken:
        return values.POISON
    hardware = ctx.need(ctx.taken[scenario.hardware], nodes.Hardware)
    bound, spec, help = f"bound `{symbol.name}.throughput`", hardware.spec, ""
    stated = None if isinstance(spec, nodes.TableHardware) else running_costs(spec)[STATED[key]]
    if isinstance(spec, nodes.TableHardware):
        help = f"a table states no `{key}`: {bound}"
    elif stated is None:
        help = f"add `{key}` to it, such as `{_EXAMPLES[key]}`; no price or power is shipped"
    elif len(scenario.batches) != 1:
        help = f"at several batches it is not linear: {bound}, by which the {key} is divided"
    if help or stated is None:
        said: Args = {"metric": metric.name, "hardware": hardware.name, "key": key}
        raise ctx.refuse(MoneyNotStated(node.name.span, help=help, **said))
    factor = Fraction(metric.tokens * stated / (scenario.batches[0] * scenario.output))
    term: values.TermKey = ("metric", ctx.name_of(symbol), "latency")
    return values.Symbolic({term: factor}, dimension=metric.dimension)


_AS = {"experts": "dtype", "activations": "dtype", "head": "embedding"}
"""Number types of a profile that are another one unless said."""


def _of_hardware(ctx: Context, symbol: values.Symbol, node: tree.Attribute) -> values.Value:
    spec, name = ctx.need(symbol, nodes.Hardware).spec, node.name.text
    known: dict[str, values.Value] = {}
    table = {} if isinstance(spec, nodes.TableHardware) else settings_of(type(spec))
    for fact in filter(table.get, HARDWARE_FACTS):
        stated = getattr(spec, table[fact].name)
        if stated is None and fact in _AS:
            stated = getattr(spec, table[_AS[fact]].name)
        if stated is not None:
            known[fact] = (
                values.Text(stated)
                if isinstance(stated, str)
                else Quantity(Fraction(stated), table[fact].unit)
            )
    if name in known:
        return known[name]
    help = f"give it: `measured(device: cpu, memory: 16GiB)`, or write a literal in place of `{symbol.name}.memory`"
    lacks_memory = name == "memory" and isinstance(spec, nodes.MeasuredHardware)
    return _unknown(ctx, node, f"hardware `{symbol.name}`", known, help if lacks_memory else "")
