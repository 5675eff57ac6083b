"""Lints of requirements: those that all children meet, or none; bounds that contradict each other, or go the wrong way.

Layers choose independently, so the values of each layer determine those of the child. Runs come from a walk over the
layers, the most distinct values from a matching of values to layers (Kuhn 1955), the fewest from a smallest hitting set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import combinations, islice
from typing import assert_never

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Args, Label
from puzzledsl.base.frozen import record
from puzzledsl.base.units import COUNT, Dimension, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.layer_tables import one_of
from puzzledsl.checker.expressions.numbers import UNITS
from puzzledsl.checker.expressions.operators import FLIPPED
from puzzledsl.ir import logic, nodes
from puzzledsl.ir.facts import fact, fixed_params, untied_params
from puzzledsl.ir.logic import Pair, Truth, compared, layers_of, layers_of_term, unbounded
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import EndsAssignment

MAX_VALUES = 100_000
"""Steps to all values of a sum: enough for counts and heads of 80 layers, a tenth of a second."""
Layers = Sequence[nodes.LayerChoice]
Contribution = Callable[[tuple[AttentionAlternative, FfnAlternative], Shape], Fraction]
"""The contribution of a layer's choice, in a layer of a shape."""


def warn_of_vacuous(ctx: Context, program: nodes.Program) -> set[nodes.Where]:
    """Report the bounds on parameters, counts, sums of sizes, runs and values that exclude no child, or every child.

    Returns the places of those that exclude every child. A statement in a `for` is reported only if all its instances
    hold, or if one never does.
    """
    impossible: set[nodes.Where] = set()
    judged: set[tuple[int, str]] = set()
    for search in program.searches.values():
        space = program.spaces[search.space]
        shape, layerwise = program.parents[space.parent].shape, ctx.once(Layerwise, space.layers, space.ends)
        instances: dict[tuple[nodes.Where, int], list[tuple[bool | None, str, str]]] = {}
        for requirement in search.requirements:
            if (id(requirement), space.name) in judged:  # a search of another has the same requirements
                continue
            judged.add((id(requirement), space.name))
            if isinstance(requirement, nodes.LinearRequirement):
                key = requirement.bound_where, id(requirement)
                found = _judged(ctx, requirement, space, shape)
            else:
                key = requirement.where, 0
                verdict, help = ctx.once(_judged_formula, requirement.formula, layerwise)
                found = verdict, f"`{requirement.where.text}`", help
            instances.setdefault(key, []).append(found)
        for (place, _), all_found in instances.items():
            never = next((each for each in all_found if each[0] is False), None)
            if never is not None:
                impossible.add(place)
            if never is not None or all(verdict for verdict, _, _ in all_found):
                _, bound, help = never or all_found[0]
                kind = errors.AlwaysHolds if never is None else errors.NeverHolds
                ctx.report(kind(ctx.span_of(place), space=space.name, bound=bound, help=help))
    return impossible


_FIGURES = {
    "runs": "the number of runs goes",
    "longest": "the layers of the longest run go",
    "distinct": "the number of different values goes",
}


def _judged_formula(formula: nodes.Logic, layerwise: Layerwise) -> tuple[bool | None, str]:
    """Return True if all children meet a formula, False if none does, None if undecided; and the reason."""
    verdict = layerwise.verdict(formula)
    if not isinstance(formula, Figure):
        return verdict, f"no choice of the layers makes it {'false' if verdict else 'true'}"
    ends = layerwise.reachable(formula)
    return verdict, "" if ends is None else f"{_FIGURES[formula.kind]} from {ends[0]} to {ends[1]}"


def _judged(
    ctx: Context, requirement: nodes.LinearRequirement, space: nodes.Space, shape: Shape
) -> tuple[bool | None, str, str]:
    """Return True if all children meet a bound, False if none does, None if undecided; with the bound in words and the reason."""
    ends = ctx.once(reachable, requirement.left, space.layers, shape, space.ends)
    if ends is None:
        return None, "", ""
    bound = requirement.bound
    if requirement.parent_ratio is not None:
        bound = requirement.parent_ratio * ctx.once(at_parent, requirement.left, shape)
    assert bound is not None
    verdict = compared(ends, requirement.op, bound)
    if verdict is None and requirement.op == "==":
        values = ctx.once(attainable, requirement.left, space.layers, shape, space.ends)
        if values is not None and bound not in values:
            text = f"`{requirement.where.text} == {requirement.bound_where.text}`"
            return False, text, one_of(requirement.where.text, values)
    low, high = (format_quantity(end, COUNT) for end in ends)
    text = f"`{requirement.where.text}` is " + (f"at most {high}" if bound >= ends[1] else f"at least {low}")
    return verdict, text, f"it goes from {low} to {high}"


def reachable(
    linear: nodes.Linear, layers: Layers, shape: Shape, ends: nodes.EndsChoice | None = None
) -> tuple[Fraction, Fraction] | None:
    """Return the least and greatest value of a sum over a space's children, both attained; None if it needs costs or scores."""
    totals = _layer_totals(linear, layers, shape, ends)
    if totals is None:
        return None
    fixed = _fixed(linear, shape)
    return fixed + sum(map(min, totals), Fraction(0)), fixed + sum(map(max, totals), Fraction(0))


def attainable(
    linear: nodes.Linear, layers: Layers, shape: Shape, ends: nodes.EndsChoice | None = None
) -> frozenset[Fraction] | None:
    """Return all values of a sum; None if it needs costs or scores, or if there are more than MAX_VALUES."""
    values = {_fixed(linear, shape)}
    for own in _layer_totals(linear, layers, shape, ends) or ():
        if len(values) * len(own) > MAX_VALUES:
            return None
        values = {value + total for value in values for total in own}
    return frozenset(values)


def _fixed(linear: nodes.Linear, shape: Shape) -> Fraction:
    params = (w.coefficient for w in linear.terms if isinstance(w.term, nodes.ParamsTerm))
    return linear.constant + sum(params, Fraction(0)) * fixed_params(shape)


def _layer_totals(
    linear: nodes.Linear, layers: Layers, shape: Shape, ends: nodes.EndsChoice | None
) -> list[frozenset[Fraction]] | None:
    """Return what each layer that a sum is about can add to it, and the model's ends; None if it needs costs or scores."""
    figures = [_figure(weighted.term) for weighted in linear.terms]
    if None in figures:
        return None
    members = [layers_of_term(weighted.term) or range(len(layers)) for weighted in linear.terms]
    terms = [*zip((w.coefficient for w in linear.terms), filter(None, figures), members, strict=True)]
    memo: dict[tuple[int, int, tuple[bool, ...]], frozenset[Fraction]] = {}
    found = []
    for layer, choice in enumerate(layers):
        own = shape.at(layer)
        here = [(coefficient, figure) for coefficient, figure, members in terms if layer in members]
        key = (id(choice), id(own), tuple(layer in members for _, _, members in terms))
        if key not in memo:
            memo[key] = frozenset(
                sum((coefficient * figure((a, f), own) for coefficient, figure in here), Fraction(0))
                for a in choice.attention
                for f in choice.ffn
            )
        if here:
            found.append(memo[key])
    if ends is not None:
        weights = (w.coefficient for w in linear.terms if isinstance(w.term, nodes.ParamsTerm))
        params, names = sum(weights, Fraction(0)), (name.split("/") for name in ends.offered)
        found.append(frozenset(params * untied_params(shape, *both) for both in names))
    return found


def at_parent(linear: nodes.Linear, shape: Shape) -> Fraction:
    """Return the value of a sum at the parent."""
    ends = reachable(linear, (nodes.LayerChoice.of_parent(),) * shape.layers, shape)
    assert ends is not None
    return ends[0]


def _figure(term: nodes.Term) -> Contribution | None:
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


Figure = nodes.Runs | nodes.Longest | nodes.Distinct
"""A figure of the whole child that is bounded."""
MAX_TRIES = 20_000
"""Sets of values that the search for the fewest looks at; beyond them no bound is judged."""


class Layerwise:
    """Possible truths of formulas over a space whose layers choose independently."""

    def __init__(self, layers: Sequence[nodes.LayerChoice], ends: nodes.EndsChoice | None = None) -> None:
        self.layers: Sequence[nodes.LayerChoice | nodes.EndsChoice] = (
            layers if ends is None else (*layers, ends)
        )
        self._known: dict[tuple[int, nodes.Logic], Truth] = {}

    def of_one_layer(self, formula: nodes.Logic) -> Truth:
        """The truth of a formula about one layer, or about none; None if it can be both."""
        layer = min(layers_of(formula), default=0)
        choice = self.layers[layer]
        key = id(choice), formula
        if key not in self._known:
            found = (logic.holds(formula, {layer: pair}) for pair in _pairs(choice))
            first = next(found, None)
            self._known[key] = first if all(truth == first for truth in found) else None
        return self._known[key]

    def verdict(self, formula: nodes.Logic) -> Truth:
        """True for a formula that every child meets, False for one that none does; None where this cannot be told."""
        if len(layers_of(formula)) <= 1:
            return self.of_one_layer(formula)
        match formula:
            case nodes.Not(operand=operand):
                return logic.negated(self.verdict(operand))
            case nodes.And(operands=operands):
                return logic.all_of([*map(self.verdict, operands)])
            case nodes.Or(operands=operands):
                return logic.negated(logic.all_of([logic.negated(self.verdict(o)) for o in operands]))
            case nodes.Implies(condition=condition, consequence=consequence):
                both = [self.verdict(condition), logic.negated(self.verdict(consequence))]
                return logic.negated(logic.all_of(both))
        if not isinstance(formula, Figure) or (ends := self.reachable(formula)) is None:
            return None
        return logic.within(ends, formula.at_least, formula.at_most)

    def reachable(self, figure: Figure) -> tuple[int, int] | None:
        """The least and the most that a figure comes to, both reached; None where this cannot be told."""
        match figure:
            case nodes.Runs(statements=statements):
                return logic.runs([*map(self.of_one_layer, statements)])
            case nodes.Longest(statements=statements):
                return logic.longest([*map(self.of_one_layer, statements)])
            case nodes.Distinct(taken=taken):
                values = self._values(taken)
                return None if values is None else distinct_ends(values)
            case _:
                assert_never(figure)

    def _values(self, taken: Sequence[nodes.Taken]) -> list[frozenset[str]] | None:
        """The values that each layer can take; None where a layer takes more than one of them at once."""
        layers = [layer for each in taken for layer in each.layers]
        if len(layers) > len(set(layers)):
            return None
        found = [frozenset(each.values[0]) for each in taken if not each.layers]
        for each in taken:
            own = ([*_pairs(self.layers[layer])] for layer in each.layers)
            found += [frozenset(logic.taken_by(each, pair) for pair in pairs) for pairs in own]
        return found


def _pairs(choice: nodes.LayerChoice | nodes.EndsChoice) -> Iterator[logic.AnyChoice]:
    if isinstance(choice, nodes.EndsChoice):
        yield from map(EndsAssignment.of, choice.offered)
        return
    yield from (Pair(a.name, f.name) for a in choice.attention for f in choice.ffn)


def distinct_ends(values: Sequence[frozenset[str]]) -> tuple[int, int] | None:
    """The fewest and the most different values of layers that each take one; None where the fewest take too long."""
    fewest = _smallest_hitting_set(sorted(set(values), key=sorted))
    return None if fewest is None else (fewest, _largest_matching(values))


def _smallest_hitting_set(sets: Sequence[frozenset[str]]) -> int | None:
    """The size of the smallest set of values with one of each of `sets`."""
    minimal = [s for s in sets if not any(other < s for other in sets)]
    known = sorted(frozenset().union(*minimal))
    tries = (chosen for size in range(len(minimal) + 1) for chosen in combinations(known, size))
    for chosen in islice(tries, MAX_TRIES):
        if all(s.intersection(chosen) for s in minimal):
            return len(chosen)
    return None


def _largest_matching(values: Sequence[frozenset[str]]) -> int:
    """The most values that can be taken at once: Kuhn's augmenting paths from layers to values."""
    owner: dict[str, int] = {}
    wanted = len(frozenset().union(*values))
    for layer in range(len(values)):
        if len(owner) == wanted:
            break
        _augment(layer, values, owner)
    return len(owner)


def _augment(layer: int, values: Sequence[frozenset[str]], owner: dict[str, int]) -> None:
    """Give a layer a value, where others can move to make room: breadth first, so that no path is too deep."""
    came_from: dict[str, int] = {}
    queue = [layer]
    for here in queue:
        for value in sorted(values[here] - came_from.keys()):
            came_from[value] = here
            if value in owner:
                queue.append(owner[value])
                continue
            held = {holder: taken for taken, holder in owner.items()}
            while True:  # each layer on the path takes the value that it was reached by
                owner[value] = came_from[value]
                if owner[value] == layer:
                    return
                value = held[owner[value]]


_DIMENSIONS: dict[str, Dimension] = {name: dimension for dimension, name in UNITS.items()}
POSITIVE = (nodes.MetricTerm, nodes.ParamsTerm)
"""Terms of which the parent's value is above zero, so that multiples of it are in the order of their factors."""


@record
class _End:
    """One end of the interval that a requirement allows: its value, whether it is excluded, and its text in messages."""

    value: Fraction
    strict: bool
    text: str


Ends = tuple[_End | None, _End | None]
"""The lower and the upper end; None where there is none."""


def warn_of_exclusive(ctx: Context, program: nodes.Program, impossible: set[nodes.Where]) -> None:
    """Report each bound that leaves nothing of an earlier one's; those at places `impossible` are reported already."""
    for search in program.searches.values():
        shape = program.parents[program.spaces[search.space].parent].shape
        tightest: dict[tuple[object, int], tuple[Ends, nodes.Where]] = {}
        for requirement in search.requirements:
            bound = _bound(ctx, requirement, shape)
            if bound is None or bound[2] in impossible:
                continue
            about, ends, where = bound
            for earlier, place in (tightest[about, side] for side in (0, 1) if (about, side) in tightest):
                if (apart := _apart(earlier, ends)) is not None:
                    span, other = ctx.span_of(where), ctx.span_of(place)
                    is_near = other != span and other.file == span.file
                    said: Args = {"space": search.space, "low": apart[0].text, "high": apart[1].text}
                    said |= {"secondary": [Label(other, "the other bound")] if is_near else []}
                    ctx.report(errors.ExcludeEachOther(span, **said))
                    break
            for side, sign in ((0, 1), (1, -1)):
                end, known = ends[side], tightest.get((about, side), ((None, None), where))[0][side]
                if end is not None and (known is None or sign * end.value > sign * known.value):
                    tightest[about, side] = ends, where


def _apart(one: Ends, two: Ends) -> tuple[_End, _End] | None:
    """The lower and the upper end that leave no value between them; None where some value meets both bounds."""
    for low, high in ((one[0], two[1]), (two[0], one[1])):
        if low is None or high is None or low.value < high.value:
            continue
        if low.value > high.value or low.strict or high.strict:
            return low, high
    return None


def _bound(
    ctx: Context, requirement: nodes.Requirement, shape: nodes.Shape
) -> tuple[object, Ends, nodes.Where] | None:
    """Return the quantity that a requirement bounds, the interval and the place; None for one that bounds nothing."""
    if isinstance(requirement, nodes.LinearRequirement):
        r, where = requirement, requirement.bound_where
        found = ctx.once(_of_linear, r.left, r.op, r.bound, r.unit, r.parent_ratio, shape)
        return None if found is None else (*found, where)
    figure, where = requirement.formula, requirement.where
    if not isinstance(figure, Figure):
        return None
    least, most = figure.at_least, figure.at_most
    low = _End(Fraction(least), False, f"at least {least}") if least > 0 else None
    high = None if most is None else _End(Fraction(most), False, f"at most {most}")
    return unbounded(figure), (low, high), where


def _of_linear(
    left: nodes.Linear, op: str, bound: Fraction | None, unit: str, ratio: Fraction | None, shape: nodes.Shape
) -> tuple[object, Ends] | None:
    lead = min(left.terms, key=lambda weighted: repr(weighted.term)).coefficient
    terms = frozenset((weighted.term, weighted.coefficient / lead) for weighted in left.terms)
    value, multiple = bound, False
    if ratio is not None and all(_figure(weighted.term) is not None for weighted in left.terms):
        value = ratio * at_parent(left, shape)
    elif ratio is not None:
        value, multiple = ratio, True
        positive = all(isinstance(w.term, POSITIVE) and w.coefficient > 0 for w in left.terms)
        if not positive or left.constant:
            return None
    assert value is not None
    scaled = value if multiple else (value - left.constant) / lead
    text = f"{float(value):.6g}x" if multiple else format_quantity(scaled, _DIMENSIONS.get(unit, COUNT), 6)
    strict, below = op in ("<", ">"), (op[0] == "<") != (lead < 0 and not multiple)
    low = _End(scaled, strict, f"{'more than' if strict else 'at least'} {text}")
    high = _End(scaled, strict, f"{'less than' if strict else 'at most'} {text}")
    return (terms, multiple), (None if below and op != "==" else low, high if below or op == "==" else None)


def warn_of_direction(ctx: Context, program: nodes.Program) -> None:
    """Report upper bounds on throughput, and lower bounds on costs and parameters, that the parent meets.

    A search that bounds the same metric from both sides asks for a range and is not reported.
    """
    for search in program.searches.values():
        bounds = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        sides = {(bound.left, bound.op[0]) for bound in bounds}
        for requirement in bounds:
            op, what, bound = requirement.op, requirement.where.text, requirement.bound_where.text
            other, direction = ("<", "less") if op[0] == ">" else (">", "more")
            if _is_wrong_way_round(requirement) and (requirement.left, other) not in sides:
                said: Args = {"bound": f"{what} {op} {bound}", "what": what, "direction": direction}
                said |= {"instead": f"{what} {FLIPPED[op]} {bound}"}
                ctx.report(errors.WrongWayRound(ctx.span_of(requirement.bound_where), **said))


def _is_wrong_way_round(requirement: nodes.LinearRequirement) -> bool:
    """True for a multiple of the parent's that the parent meets and that only better children miss."""
    ratio, left = requirement.parent_ratio, requirement.left
    if ratio is None or len(left.terms) != 1 or left.constant or left.terms[0].coefficient != 1:
        return False
    match left.terms[0].term:
        case nodes.MetricTerm(metric=metric) if METRICS[metric].better == "more":
            return ratio >= 1 if requirement.op == "<=" else requirement.op == "<" and ratio > 1
        case nodes.MetricTerm() | nodes.ParamsTerm():
            return ratio <= 1 if requirement.op == ">=" else requirement.op == ">" and ratio < 1
        case _:
            return False
