"""Inlay hints of costs: the parent's value behind each metric, the share of its parameters and time behind each alternative."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from lsprotocol import types

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.roofline import sub_block_cost
from puzzledsl.language import words
from puzzledsl.server import costs
from puzzledsl.server.document import Document
from puzzledsl.server.nodes_at import walk
from puzzledsl.server.scopes import Scope, nature
from puzzledsl.syntax import tree


def inlay_hints(document: Document, wanted: types.Range) -> list[types.InlayHint]:
    """Return the hints of the lines of a range. A hint says what is known without running anything; else there is none."""
    if document.inspected[1] is None:
        return []
    first, last = wanted.start.line + 1, wanted.end.line + 1
    found: list[types.InlayHint] = []
    for item in document.file.module.items:
        if isinstance(item, tree.Decl) and item.span.line <= last and first <= item.span.end_line:
            shown = {"space": _of_space, "search": _of_search}.get(item.kind.text)
            found += shown(document, item) if shown is not None else ()
    return [hint for hint in found if wanted.start.line <= hint.position.line <= wanted.end.line]


# ---------------------------------------------------------------- metrics


def _of_search(document: Document, decl: tree.Decl) -> Iterator[types.InlayHint]:
    """Yield the parent's value behind the first mention of each metric in a search."""
    told: set[tuple[str, str]] = set()
    for node in walk(decl):
        if not isinstance(node, tree.Attribute) or not isinstance(node.target, tree.Name):
            continue
        scenario, metric = node.target.text, node.name.text
        kind = nature(node.target, Scope(document.file))[0]
        if kind != "scenario" or metric not in words.METRICS or (scenario, metric) in told:
            continue
        told.add((scenario, metric))
        text = costs.parent_metric(document, scenario, metric, decl.name.text)
        if text:
            value = text.removeprefix("the parent: ").partition(" at ")[0]
            yield _hint(document, node, f"parent {value}", f"{metric} of {text}")


# ---------------------------------------------------------------- alternatives


def _of_space(document: Document, decl: tree.Decl) -> Iterator[types.InlayHint]:
    """Yield what each option of a choice keeps of the parent's sub-block."""
    for statement in decl.body or ():
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
    ctx, found = document.inspected[1], costs.alternatives_of(document, option, within, sub_block)
    if ctx is None or found is None:
        return None
    shape, alternatives = found
    if not alternatives or all(alternative.kind == "noop" for alternative, _ in alternatives):
        return None
    whole = PARENTS[sub_block]
    params = [Fraction(a.params(own), whole.params(own)) for a, own in alternatives if whole.params(own) > 0]
    parts, times = [f"{_percent(params)} params"] if params else [], []
    place = next(iter(costs.workplaces(ctx, shape)), None)
    if place is not None:
        times = [
            Fraction(one, all_)
            for a, own in alternatives
            for one, all_ in [(_time_ns(place, own, a), _time_ns(place, own, whole))]
            if all_
        ]
        parts += [f"{_percent(times)} time"] if times else []
    if not parts or (set(params) | set(times)) == {1}:  # the parent itself
        return None
    of = f"of the parent's {sub_block}" + (f", in `{place.scenario.name}`" if place is not None else "")
    return _hint(document, option, ", ".join(parts), f"{', '.join(parts)} {of}")


def _time_ns(place: costs.Workplace, own: Shape, alternative: Alternative) -> int:
    work = Workload(place.batch, place.scenario.prompt, place.scenario.output)
    cost = sub_block_cost(place.hardware, own, alternative, work)
    return cost.prefill_ns + work.output * cost.decode_ns


def _percent(shares: list[Fraction]) -> str:
    """Return the least and the greatest share: `25..87%`."""
    low, high = (f"{float(100 * share):.3g}" for share in (min(shares), max(shares)))
    return f"{low}%" if low == high else f"{low}..{high}%"


def _hint(document: Document, node: tree.Node, label: str, tooltip: str) -> types.InlayHint:
    span = node.span
    return types.InlayHint(
        document.lines.position(span.end_line, span.end_column),
        label,
        padding_left=True,
        tooltip=tooltip,
    )
