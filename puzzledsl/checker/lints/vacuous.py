"""Lint of size and choice requirements that all children meet, or none: decidable before any cost or score is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.units import COUNT, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import AlwaysHolds, NeverHolds
from puzzledsl.checker.expressions.structures import Structure, recognised
from puzzledsl.checker.lints.structure import Layerwise
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact, fixed_params
from puzzledsl.ir.nodes import Shape

Pair = tuple[AttentionAlternative, FfnAlternative]
Figure = Callable[[Pair, Shape], Fraction]
"""The contribution of a layer's choice, in a layer of a shape."""


def warn_of_vacuous(ctx: Context, program: nodes.Program) -> set[nodes.Where]:
    """Report the bounds on parameters, counts, sums of sizes, runs and values that exclude no child, or every child.

    Returns the places of those that exclude every child.
    """
    impossible: set[nodes.Where] = set()
    judged: set[tuple[int, str]] = set()
    for search in program.searches.values():
        space = program.spaces[search.space]
        shape = program.parents[space.parent].shape
        # a search of another has the same requirements
        new = [r for r in search.requirements if (id(r), space.name) not in judged]
        judged.update((id(requirement), space.name) for requirement in new)
        for requirement in new:
            if isinstance(requirement, nodes.LinearRequirement):
                span = span_of(ctx, requirement.bound_where)
                warning = _judged(requirement, space, shape, span)
                if warning is not None:
                    ctx.report(warning)
                if isinstance(warning, NeverHolds):
                    impossible.add(requirement.bound_where)
        impossible |= _warn_of_statements(ctx, new, space)
    return impossible


def _warn_of_statements(
    ctx: Context, requirements: Sequence[nodes.Requirement], space: nodes.Space
) -> set[nodes.Where]:
    """Report vacuous statements about layers and return the places of those that exclude every child.

    A statement in a `for` is reported only if all its instances hold, or if one never does.
    """
    impossible: set[nodes.Where] = set()
    layerwise = Layerwise(space)
    instances: dict[nodes.Where, list[tuple[bool | None, str]]] = {}
    for requirement in requirements:
        if isinstance(requirement, nodes.LogicRequirement):
            judged = _judged_formula(requirement.formula, layerwise)
            instances.setdefault(requirement.where, []).append(judged)
    for where, found in instances.items():
        never = next((help for verdict, help in found if verdict is False), None)
        always = found[0][1] if all(verdict for verdict, _ in found) else None
        bound, span = f"`{where.text}`", span_of(ctx, where)
        if never is not None:
            impossible.add(where)
            ctx.report(NeverHolds(span, space=space.name, bound=bound, help=never))
        elif always is not None:
            ctx.report(AlwaysHolds(span, space=space.name, bound=bound, help=always))
    return impossible


_FIGURES = {
    "runs": "the number of runs goes",
    "longest": "the layers of the longest run go",
    "distinct": "the number of different values goes",
}


def _judged_formula(formula: nodes.Logic, layerwise: Layerwise) -> tuple[bool | None, str]:
    """Return True if all children meet a formula, False if none does, None if undecided; and the reason."""
    structure = recognised(formula)
    if not isinstance(structure, Structure):
        verdict = layerwise.verdict(formula)
        return verdict, f"no choice of the layers makes it {'false' if verdict else 'true'}"
    ends = layerwise.reachable(structure)
    if ends is None:
        return None, ""
    (low, high), (least, most) = ends, (structure.least, structure.most)
    text = f"{_FIGURES[structure.function]} from {low} to {high}"
    if high < least or (most is not None and low > most):
        return False, text
    return (True if least <= low and (most is None or high <= most) else None), text


def span_of(ctx: Context, where: nodes.Where) -> Span:
    """Return the span of a place of the IR, which names files as the program does."""
    file = next((f.file for f in ctx.loader.files.values() if f.shown == where.file), where.file)
    return Span(file, where.line, where.column, where.end_line, where.end_column)


def _judged(
    requirement: nodes.LinearRequirement, space: nodes.Space, shape: Shape, span: Span
) -> Diagnostic | None:
    ends = reachable(requirement.left, space, shape)
    if ends is None:
        return None
    bound = requirement.bound
    if requirement.parent_ratio is not None:
        bound = requirement.parent_ratio * at_parent(requirement.left, shape)
    assert bound is not None
    verdict = _verdict(requirement.op, bound, *ends)
    if verdict is None:
        return None
    low, high = (format_quantity(end, COUNT) for end in ends)
    text = f"`{requirement.where.text}` is " + (f"at most {high}" if bound >= ends[1] else f"at least {low}")
    kind = AlwaysHolds if verdict else NeverHolds
    return kind(span, space=space.name, bound=text, help=f"it goes from {low} to {high}")


def _verdict(op: str, bound: Fraction, low: Fraction, high: Fraction) -> bool | None:
    """Return True if every value from `low` to `high` meets `op bound`, False if none does, else None."""
    match op:
        case "<=" | "<":
            strict = op == "<"
            always, never = (
                high < bound or (high == bound and not strict),
                low > bound or (low == bound and strict),
            )
        case ">=" | ">":
            strict = op == ">"
            always, never = (
                low > bound or (low == bound and not strict),
                high < bound or (high == bound and strict),
            )
        case _:
            always, never = low == high == bound, not low <= bound <= high
    return True if always else False if never else None


# ---------------------------------------------------------------- what a sum can be


def reachable(linear: nodes.Linear, space: nodes.Space, shape: Shape) -> tuple[Fraction, Fraction] | None:
    """Return the least and greatest value of a sum over the children of a space; None if it needs costs or scores.

    Layers are chosen independently, so both ends are sums of the layers' ends, and both are attained.
    """
    figures = [_figure(weighted.term) for weighted in linear.terms]
    if any(figure is None for figure in figures):
        return None
    low = high = linear.constant + sum(
        (w.coefficient * fixed_params(shape) for w in linear.terms if isinstance(w.term, nodes.ParamsTerm)),
        Fraction(0),
    )
    members = [_layers(weighted.term, len(space.layers)) for weighted in linear.terms]
    memo: dict[tuple[int, int, tuple[bool, ...]], tuple[Fraction, Fraction]] = {}
    for layer, choice in enumerate(space.layers):
        own = shape.at(layer)
        key = (id(choice), id(own), tuple(layer in member for member in members))
        if not any(key[2]):
            continue
        if key not in memo:
            totals = [
                sum(
                    (
                        weighted.coefficient * figure((a, f), own)
                        for weighted, figure, inside in zip(linear.terms, figures, key[2], strict=True)
                        if inside and figure is not None
                    ),
                    Fraction(0),
                )
                for a in choice.attention
                for f in choice.ffn
            ]
            memo[key] = min(totals), max(totals)
        low, high = low + memo[key][0], high + memo[key][1]
    return low, high


def is_reachable(linear: nodes.Linear) -> bool:
    """Return True for a sum whose ends `reachable` tells: one without costs and scores."""
    return all(_figure(weighted.term) is not None for weighted in linear.terms)


def at_parent(linear: nodes.Linear, shape: Shape) -> Fraction:
    """Return the value of a sum at the parent."""
    kept = nodes.LayerChoice.of_parent()
    where = nodes.Where(file="", line=1, column=1, end_line=1, end_column=1)
    parent = nodes.Space(name="", parent="", layers=(kept,) * shape.layers, where=where)
    ends = reachable(linear, parent, shape)
    assert ends is not None
    return ends[0]


def _layers(term: nodes.Term, count: int) -> frozenset[int]:
    if isinstance(term, nodes.FactTerm | nodes.CountTerm | nodes.TableTerm):
        return frozenset(term.layers)
    return frozenset(range(count))


def _figure(term: nodes.Term) -> Figure | None:
    """Return the function from a layer's choice to its contribution to a term; None for metrics and scores."""
    match term:
        case nodes.ParamsTerm():
            return lambda pair, own: Fraction(pair[0].params(own) + pair[1].params(own))
        case nodes.FactTerm(sub_block=sub_block, attribute=attribute):
            return lambda pair, own: Fraction(fact(pair[sub_block == "ffn"], attribute, own))
        case nodes.CountTerm(sub_block=sub_block, alternatives=names):
            return lambda pair, own: Fraction(pair[sub_block == "ffn"].name in names)
        case nodes.TableTerm() as table:
            return lambda pair, own: table.value(pair[0].name, pair[1].name)
        case _:
            return None
