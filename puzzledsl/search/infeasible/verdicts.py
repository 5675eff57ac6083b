"""Diagnostics of searches without a solution: conflicting requirements, their best reachable values, and a relaxation.

Reachable values are in the unit of the user's bound, such as `2.12x` for a bound of `2.17x`, or `31.2s` for `30s`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from puzzledsl.base import units
from puzzledsl.base.diagnostics import Diagnostic, Fix, Label, Mistake
from puzzledsl.base.phrases import listed
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import DIMENSIONS, LinearRequirement, Program, Requirement, Search
from puzzledsl.ir.tables import Change, ConflictItem, SearchResult

DIGITS = 3
_LITERAL = re.compile(r"(?P<digits>\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-zµ/%]*)")
_UNIT = re.compile(r"[^0-9.\-eE+][^0-9]*$")
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


NoSolution = Mistake("E0501", "search `{name}` has no solution")
NoAnswerInTime = Mistake("E0507", "search `{name}`: no solution found by {how}")


def no_answer(
    program: Program, result: SearchResult, more: str = "", time_s: float | None = None
) -> Diagnostic | None:
    """Return the diagnostic of a result without solutions, else None. `time_s`: seconds tried; `more`: the setting advised."""
    if result.solutions:
        return None
    if result.status == "infeasible":
        return infeasible_diagnostic(program, result)
    search = program.searches[result.search]
    where, name = span_of(search.where), search.name
    notes = ["that there is no solution is not proven either"]
    if result.bound is not None:
        worse = "smaller" if search.sense == "minimize" else "larger"
        notes.append(f"proven so far: no solution has an objective {worse} than {result.bound:.6g}")
    time_s = float(search.solver.time_s) if time_s is None else time_s
    help = f"give it more time: `{more or f'solver = cpsat(time: {max(1, round(4 * time_s))}s)'}`"
    return NoAnswerInTime(where, name=name, how=f"CP-SAT in {time_s:g} s", notes=notes, help=help)


def infeasible_diagnostic(program: Program, result: SearchResult) -> Diagnostic:
    """Return E0501, with every requirement of the conflict underlined and its best value when the others are kept."""
    search, way = program.searches[result.search], result.relaxation
    statements = requirements_by_place(search)
    labels = []
    for item in result.conflict:
        requirement = statements[item.line, item.text]
        at = requirement.bound_where if isinstance(requirement, LinearRequirement) else requirement.where
        labels.append(Label(span_of(at), _label(item, len(result.conflict))))
    if not labels:
        note = "no model of the space fits, whatever is required" if statements else "the space has no model"
        return NoSolution(span_of(search.where), name=search.name, notes=[note])
    help, fixes = "", list[Fix]()
    if way is not None:
        moves = listed(map(_change, way.changes))
        help = f"{moves}: then there is a solution, of objective {way.objective:.6g} (solved and verified)"
        only = way.changes[0]  # an editor's fix if a single bound has to change
        moved = statements[only.line, only.text]
        if len(way.changes) == 1 and only.bound is not None and isinstance(moved, LinearRequirement):
            fixes = [Fix.replace(span_of(moved.bound_where), only.bound, safe=False)]
    notes = _notes(result, len(statements))
    first, *others = labels
    return NoSolution(
        first.span, first.text, name=search.name, secondary=others, notes=notes, help=help, fixes=fixes
    )


def requirements_by_place(search: Search) -> dict[tuple[int, str], Requirement]:
    """Return the first requirement of each `require` statement, by the statement's line and text."""
    return {(r.where.line, r.where.text): r for r in reversed(search.requirements)}


def _label(item: ConflictItem, size: int) -> str:
    others = "" if size == 1 else " with the other" + (f" {NUMBERS.get(size - 1, size - 1)}" * (size > 2))
    if not item.reachable:
        return f"cannot be met{others}"
    if item.proven:
        return f"best{others or ' possible'}: {item.reachable}"
    return f"reached{others}: {item.reachable}"


def _notes(result: SearchResult, of: int) -> Iterator[str]:
    yield _freed(result.conflict, of)
    if not result.conflict_minimal:
        yield "time ran out before each of them was shown to be needed: fewer may conflict"
    if unproven := [str(item.line) for item in result.conflict if not item.proven]:
        lines = f"line{'s' if len(unproven) > 1 else ''} {listed(unproven)}"
        yield f"time ran out before what was reached in {lines} was proven to be the best"


def _freed(conflict: Sequence[ConflictItem], of: int) -> str:
    """Describe the conflict's share of all `of` statements, and which of its statements would free the others."""
    size, rest = len(conflict), "the other" if of == 2 else "the rest"
    share = "" if size == of else f" of {of}"
    what = f"this one{share} cannot be met" if size == 1 else f"these {size}{share} conflict"
    free = [item for item in conflict if item.frees]
    if not free:
        return what if of == 1 else f"{what}; there is another conflict besides"
    if of == 1:
        return what
    if len(free) < size:
        dropped = listed([f"the one in line {item.line}" for item in free], "or")
    else:
        dropped = {1: "it", 2: "either"}.get(size, "any one")
    return f"{what}; dropping {dropped} makes {rest} satisfiable"


def _change(change: Change) -> str:
    if change.bound is None:
        return f"drop the requirement of line {change.line}"
    return f"write `{change.bound}` in line {change.line}"


@dataclass(frozen=True, slots=True)
class Written:
    """A literal and its value: in base units, or, for a ratio, as a multiple of the parent's value."""

    text: str
    value: Fraction


def in_users_unit(requirement: LinearRequirement, value: Fraction, parent: Fraction) -> Written | None:
    """Return a value of the left side as a literal in the form of the requirement's bound.

    It is rounded away from the bound, so that with the literal as the bound, `value` meets the requirement (for a strict
    inequality, it is the next literal beyond). It is exact for an equation. None for a ratio to a parent's value of 0.
    """
    literal = _LITERAL.fullmatch(requirement.bound_where.text.strip())
    written, unit = ("", "") if literal is None else literal.groups()
    digits = max(DIGITS, len(re.sub(r"[eE].*|[._]", "", written).lstrip("0")))
    equal = requirement.op == "=="
    upwards, strict = requirement.op in ("<=", "<"), requirement.op in ("<", ">")
    if equal:
        digits = max(digits, len(str(abs(value.numerator))) + len(str(value.denominator)))
    dimension, scale = DIMENSIONS[requirement.unit], Fraction(1)
    if requirement.parent_ratio is not None:
        if not parent:
            return None
        value, unit, upwards = value / parent, "x", upwards == (parent > 0)
    elif unit == "%" and dimension == units.COUNT:
        scale = Fraction(1, 100)
    elif unit not in ("", "%") and unit in units.UNITS and units.UNITS[unit][1] == dimension:
        scale = units.UNITS[unit][0]
    elif dimension == units.COUNT and value.denominator == 1 and (abs(value) < 10**6 or equal):
        beyond = value + (strict if upwards else -strict)
        return Written(plain(beyond), beyond)
    else:  # a unit that suits its size, if the user wrote none: `5.861B`, `76.2GiB`
        digits += 1
        found = _UNIT.search(units.format_quantity(value, dimension, digits))
        unit = "" if found is None else found[0].strip()
        scale = units.parse_quantity(f"1{unit}").value
    number = round_to(value / scale, digits, upwards, strict)
    return Written(units.with_unit(plain(number), unit), number * scale)


def round_to(value: Fraction, digits: int, upwards: bool, strict: bool = False) -> Fraction:
    """Round up (`upwards`) or down to `digits` significant digits; `strict`: to the next one if it is that short already."""
    if value == 0 and not strict:
        return Fraction(0)
    power = digits - 1 - (math.floor(math.log10(abs(float(value)))) if value else 0)
    scaled = value * Fraction(10) ** power
    whole = math.ceil(scaled) if upwards else math.floor(scaled)
    if strict and whole == scaled:
        whole += 1 if upwards else -1
    return whole / Fraction(10) ** power


def plain(value: Fraction) -> str:
    """Return a finite decimal fraction in full, without an exponent."""
    exact = Context(prec=len(str(value.numerator)) + value.denominator.bit_length())
    return f"{exact.divide(Decimal(value.numerator), Decimal(value.denominator)):f}"
