"""Formulas about layers: the layers they mention, and Kleene's three-valued logic (1952) with unknown layers."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, assert_never

from puzzledsl.alternatives.alternative import Site
from puzzledsl.ir import search_nodes as nodes
from puzzledsl.ir.search_nodes import Logic, Term
from puzzledsl.ir.tables.answers import EndsAssignment, LayerAssignment

Truth = bool | None
Interval = tuple[int, int]


class Pair(NamedTuple):
    """A layer's choice by canonical names."""

    attention: str
    ffn: str


AnyChoice = Pair | LayerAssignment | EndsAssignment
"""The choice of a layer, or, in the layer after the last, that of the ends of the model."""
_PAIR = attrgetter("attention", "ffn")


def taken_by(taken: nodes.Taken, choice: AnyChoice) -> str:
    """Return the value that a layer takes with a choice."""
    value: str = taken.value(*_PAIR(choice))
    return value


def layers_of(logic: Logic) -> frozenset[int]:
    """Return the layers that a formula mentions."""
    parts: tuple[Logic, ...]
    match logic:
        case nodes.Is(layer=layer):
            return frozenset([layer])
        case nodes.Same(left=left, right=right):
            return frozenset([left, right])
        case nodes.Distinct(taken=taken):
            return frozenset(layer for each in taken for layer in each.layers)
        case nodes.Compare(left=linear):
            return frozenset(layer for w in linear.terms for layer in layers_of_term(w.term))
        case nodes.Not(operand=operand):
            parts = (operand,)
        case nodes.Implies(condition=condition, consequence=consequence):
            parts = condition, consequence
        case nodes.And() | nodes.Or():
            parts = logic.operands
        case nodes.Runs() | nodes.Longest():
            parts = logic.statements
        case _:
            assert_never(logic)
    return frozenset().union(*map(layers_of, parts))


def layers_of_term(term: Term) -> tuple[int, ...]:
    """Return the layers that a sum over layers mentions; none for a figure of the whole child."""
    return term.layers if isinstance(term, nodes.FactTerm | nodes.CountTerm | nodes.TableTerm) else ()


def unbounded(figure: nodes.Runs | nodes.Longest | nodes.Distinct) -> Logic:
    """Return a figure with its bounds removed: statements that bound the same figure become equal."""
    return figure.model_copy(update={"at_least": 0, "at_most": None})


def holds(logic: Logic, layers: Mapping[int, AnyChoice]) -> Truth:
    """Return the truth of a formula for known choices `layers`; None if others decide. Raises ValueError for sums of facts."""

    def truth(part: Logic) -> Truth:
        return holds(part, layers)

    match logic:
        case nodes.Is(layer=layer, sub_block=part, alternatives=names):
            if layer not in layers:
                return None if names else False
            return _name(layers[layer], part) in names
        case nodes.Distinct(at_least=least, at_most=most):
            return within(_values(logic, layers), least, most)
        case nodes.Same(left=left, right=right, sub_blocks=parts):
            if left not in layers or right not in layers:
                return None
            return all(_name(layers[left], part) == _name(layers[right], part) for part in parts)
        case nodes.Compare():
            return _compared(logic, layers)
        case nodes.Not(operand=operand):
            return negated(truth(operand))
        case nodes.And(operands=operands):
            return all_of([*map(truth, operands)])
        case nodes.Or(operands=operands):
            return negated(all_of([negated(truth(part)) for part in operands]))
        case nodes.Implies(condition=condition, consequence=consequence):
            return negated(all_of([truth(condition), negated(truth(consequence))]))
        case nodes.Runs(statements=statements):
            found = runs([*map(truth, statements)])
        case nodes.Longest(statements=statements):
            found = longest([*map(truth, statements)])
        case _:
            assert_never(logic)
    return within(found, logic.at_least, logic.at_most)


def all_of(values: Sequence[Truth]) -> Truth:
    """Return the truth of a conjunction; None if unknown values decide."""
    return False if False in values else None if None in values else True


def negated(value: Truth) -> Truth:
    """Return the truth of a negation."""
    return None if value is None else not value


def within(found: Interval, least: int, most: int | None) -> Truth:
    """Return the truth of `least <= number <= most` for a number in an interval."""
    low, high = found
    if high < least or (most is not None and low > most):
        return False
    return True if low >= least and (most is None or high <= most) else None


def runs(values: Sequence[Truth]) -> Interval:
    """Return the fewest and the most runs of true values that are possible, as None may be true or false."""
    ends: dict[bool, Interval] = {False: (0, 0)}
    for value in values:
        following: dict[bool, Interval] = {}
        for here in (True, False) if value is None else (value,):
            ways = [(low + (here and not before), high + (here and not before))
                    for before, (low, high) in ends.items()]  # fmt: skip
            following[here] = min(way[0] for way in ways), max(way[1] for way in ways)
        ends = following
    return min(end[0] for end in ends.values()), max(end[1] for end in ends.values())


def longest(values: Sequence[Truth]) -> Interval:
    """Return the least and the greatest possible length of the longest run of true values, as None may be true or false."""
    held = ([value is True for value in values], [value is not False for value in values])
    least, most = (max((len([*run]) for holds, run in groupby(each) if holds), default=0) for each in held)
    return least, most


def _values(logic: nodes.Distinct, layers: Mapping[int, AnyChoice]) -> Interval:
    """Return the fewest and the most different values: an interval that holds all that are possible."""
    sure: set[str] = set()
    possible: set[str] = set()
    unknown = 0
    for taken in logic.taken:
        known = [layers[layer] for layer in taken.layers if layer in layers]
        sure.update(taken_by(taken, choice) for choice in known)
        if not taken.layers:
            sure.add(taken.values[0][0])
        elif len(known) < len(taken.layers):
            possible.update(value for row in taken.values for value in row)
            unknown += len(taken.layers) - len(known)
    return max(len(sure), bool(unknown)), len(sure) + min(len(possible - sure), unknown)


def _compared(logic: nodes.Compare, layers: Mapping[int, AnyChoice]) -> Truth:
    low = high = logic.left.constant
    for weighted in logic.left.terms:
        for layer in layers_of_term(weighted.term):
            ends = [weighted.coefficient * end for end in _ends(weighted.term, layers.get(layer))]
            low, high = low + min(ends), high + max(ends)
    return compared((low, high), logic.op, logic.bound)


def compared(ends: tuple[Fraction, Fraction], op: str, bound: Fraction) -> Truth:
    """Return the truth of `number op bound` for a number between two ends; None where both truths are possible."""
    low, high = ends
    match op:
        case "==":
            return (low == high or None) if low <= bound <= high else False
        case "<=" | "<":
            sure, possible = (high <= bound, low <= bound) if op == "<=" else (high < bound, low < bound)
        case _:
            sure, possible = (low >= bound, high >= bound) if op == ">=" else (low > bound, high > bound)
    return True if sure else None if possible else False


def _ends(term: Term, choice: AnyChoice | None) -> Sequence[Fraction]:
    """Return what one layer adds to a term: one value; or, if `choice` is None, the least and the greatest that are possible."""
    match term:
        case nodes.CountTerm(sub_block=part, alternatives=names):
            if choice is not None:
                return (Fraction(_name(choice, part) in names),)
            return Fraction(0), Fraction(bool(names))
        case nodes.TableTerm(values=values):
            if choice is not None:
                return (term.value(*_PAIR(choice)),)
            cells = [cell for row in values for cell in row]
            return min(cells), max(cells)
    raise ValueError("a term that is no count and no table")


def _name(choice: AnyChoice, site: Site) -> str:
    return str(getattr(choice, site))
