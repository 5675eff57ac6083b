"""Formulas for runs, for the longest run, for different values and for equal choices, and their recognition.

Constructors and readers are together: `recognised` returns the arguments of the constructor, for messages and bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, assert_never

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir import nodes

Function = Literal["runs", "longest", "distinct"]
Statements = tuple[nodes.Logic, ...]
TRUE, FALSE = nodes.And(operands=()), nodes.Or(operands=())


@dataclass(frozen=True, slots=True)
class Structure:
    """From `least` to `most` runs, layers of the longest run, or different values; `most` None: no upper limit.

    `statements` are one for each layer, in order; of `distinct` one for each value: an `Or` over the layers.
    """

    function: Function
    statements: Statements
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Same:
    """Layers `left` and `right` choose the same for each of `parts`."""

    left: int
    right: int
    parts: tuple[SubBlock, ...]


def within(function: Function, statements: Statements, least: int, most: int | None) -> nodes.Logic:
    """The formula "from `least` to `most`" of a figure of the whole child."""
    least = max(least, 0)
    if most is not None and most < least:
        return FALSE
    match function:
        case "runs":
            return nodes.Cardinality(operands=_beginnings(statements), at_least=least, at_most=most)
        case "distinct":
            return nodes.Cardinality(operands=statements, at_least=least, at_most=most)
        case "longest":
            return _longest(statements, least, most)


def parts_of(function: Function, size: int, count: int, least: int, most: int | None) -> int:
    """An upper bound on the nodes of `within`, of `count` statements with `size` nodes together."""
    match function:
        case "runs":
            return 1 + 2 * size + 2 * count
        case "distinct":
            return 1 + size + count
        case "longest":
            lower = _parts_of_windows(size, count, least)
            return 1 + lower + (0 if most is None else _parts_of_windows(size + count, count, most + 1))


def _parts_of_windows(size: int, count: int, width: int) -> int:
    windows = count - width + 1
    return 1 + windows + size * min(width, windows) if 0 < width <= count else 1


def collect_layers(logic: nodes.Logic, found: set[int]) -> None:
    """Add the layers that a formula is about to `found`."""
    match logic:
        case nodes.Is(layer=layer):
            found.add(layer)
        case nodes.Not(operand=operand):
            collect_layers(operand, found)
        case (
            nodes.And(operands=operands) | nodes.Or(operands=operands) | nodes.Cardinality(operands=operands)
        ):
            for operand in operands:
                collect_layers(operand, found)
        case nodes.Implies(condition=condition, consequence=consequence):
            collect_layers(condition, found)
            collect_layers(consequence, found)
        case _:
            assert_never(logic)


# ---------------------------------------------------------------- runs


def _beginnings(statements: Statements) -> Statements:
    """One formula a layer: a run begins there."""
    later = (nodes.And(operands=(here, nodes.Not(operand=before))) for before, here in pairwise(statements))
    return (*statements[:1], *later)


def _statements_of_runs(operands: Statements) -> Statements | None:
    found = list(operands[:1])
    for operand in operands[1:]:
        match operand:
            case nodes.And(operands=(here, nodes.Not(operand=before))) if before == found[-1]:
                found.append(here)
            case _:
                return None
    return tuple(found) if found and _of_ascending_layers(found) else None


def _is_one_value(statements: Statements) -> bool:
    """True for the one value that one layer takes: `distinct` writes it as an `Or` of one part."""
    match statements:
        case (nodes.Or(operands=(_,)),):
            return True
    return False


def _of_ascending_layers(statements: Sequence[nodes.Logic]) -> bool:
    """True where each statement is about one layer, or constant, and layers ascend."""
    last = -1
    for statement in statements:
        layers: set[int] = set()
        collect_layers(statement, layers)
        if len(layers) > 1 or any(layer <= last for layer in layers):
            return False
        last = max(layers, default=last)
    return True


# ---------------------------------------------------------------- the longest run


def _longest(statements: Statements, least: int, most: int | None) -> nodes.Logic:
    lower = nodes.Or(operands=tuple(nodes.And(operands=w) for w in _windows(statements, least)))
    if most is None:
        return lower if least else TRUE
    negated = tuple(nodes.Not(operand=statement) for statement in statements)
    upper = nodes.And(operands=tuple(nodes.Or(operands=w) for w in _windows(negated, most + 1)))
    return nodes.And(operands=(lower, upper)) if least else upper


def _windows(statements: Statements, width: int) -> list[Statements]:
    return [statements[i : i + width] for i in range(len(statements) - width + 1)]


def _joined(windows: Sequence[Statements]) -> Statements | None:
    """The statements that windows of one width slide over; None where they do not."""
    for before, here in pairwise(windows):
        if before[1:] != here[:-1] or len(before) != len(here):
            return None
    if not windows or not windows[0]:
        return None
    found = (*windows[0], *(window[-1] for window in windows[1:]))
    return found if _of_ascending_layers(found) else None


def _at_most(logic: nodes.Logic) -> Structure | None:
    if not isinstance(logic, nodes.And):
        return None
    windows: list[Statements] = []
    for operand in logic.operands:
        if not isinstance(operand, nodes.Or):
            return None
        plain = tuple(part.operand for part in operand.operands if isinstance(part, nodes.Not))
        if len(plain) < len(operand.operands):
            return None
        windows.append(plain)
    found = _joined(windows)
    return None if found is None else Structure("longest", found, 0, len(windows[0]) - 1)


def _at_least(logic: nodes.Logic) -> Structure | None:
    if not isinstance(logic, nodes.Or):
        return None
    windows = [operand.operands for operand in logic.operands if isinstance(operand, nodes.And)]
    found = _joined(windows) if len(windows) == len(logic.operands) else None
    return None if found is None else Structure("longest", found, len(windows[0]), None)


def _both(logic: nodes.Logic) -> Structure | None:
    match logic:
        case nodes.And(operands=(nodes.Or() as lower, nodes.And() as upper)):
            least, most = _at_least(lower), _at_most(upper)
            if least is not None and most is not None and least.statements == most.statements:
                return Structure("longest", least.statements, least.least, most.most)
    return None


# ---------------------------------------------------------------- equal choices


def same_choice(
    left: int, right: int, part: SubBlock, own: Sequence[str], others: Sequence[str]
) -> nodes.Logic:
    """Two layers choose the same for a sub-block; `own` and `others` are what they may choose, by canonical name."""
    common = tuple(name for name in own if name in others)
    both = nodes.Is(layer=left, sub_block=part, alternatives=common)
    links = (
        nodes.Implies(
            condition=nodes.Is(layer=left, sub_block=part, alternatives=(name,)),
            consequence=nodes.Is(layer=right, sub_block=part, alternatives=(name,)),
        )
        for name in common
    )
    return nodes.And(operands=(both, *links))


def _same(logic: nodes.Logic) -> Same | None:
    match logic:
        case nodes.And(operands=(nodes.Is(layer=left, sub_block=part, alternatives=names), *links)) if links:
            linked = [_link(link, left, part) for link in links]
            right = linked[0][1] if linked[0] is not None else -1
            if [(name, right) for name in names] == linked and right not in (left, -1):
                return Same(left, right, (part,))
        case nodes.And(operands=(nodes.And() as one, nodes.And() as two)):
            first, second = _same(one), _same(two)
            match first, second:
                case Same(left=left, right=right, parts=("attention",)), Same(parts=("ffn",)) as other:
                    if (left, right) == (other.left, other.right):
                        return Same(left, right, ("attention", "ffn"))
    return None


def _link(logic: nodes.Logic, left: int, part: SubBlock) -> tuple[str, int] | None:
    match logic:
        case nodes.Implies(
            condition=nodes.Is(layer=here, sub_block=one, alternatives=(name,)),
            consequence=nodes.Is(layer=there, sub_block=two, alternatives=(other,)),
        ) if here == left and one == two == part and name == other:
            return name, there
    return None


# ---------------------------------------------------------------- back from a formula


def recognised(logic: nodes.Logic) -> Structure | Same | None:
    """Return the structure that a formula was made for; None for one that says something else."""
    match logic:
        case nodes.Cardinality(operands=operands, at_least=least, at_most=most):
            runs = _statements_of_runs(operands)
            if runs is not None and not _is_one_value(runs):
                return Structure("runs", runs, least, most)
            if operands and all(isinstance(operand, nodes.Or) for operand in operands):
                return Structure("distinct", operands, least, most)
            return None
        case nodes.And():
            return _same(logic) or _both(logic) or _at_most(logic)
        case nodes.Or():
            return _at_least(logic)
        case _:
            return None
