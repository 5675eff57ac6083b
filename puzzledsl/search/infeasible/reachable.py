"""Format reachable values in the unit of the user's bound, such as `2.12x` for a bound of `2.17x`, or `31.2s` for `30s`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

from puzzledsl.base import units
from puzzledsl.ir.nodes import LinearRequirement

DIMENSIONS = {"": units.COUNT, "bytes": units.BYTES, "seconds": units.TIME, "tokens_per_s": units.TOK_PER_S}
DIGITS = 3
_LITERAL = re.compile(r"(?P<digits>\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-zµ/%]*)")
_UNIT = re.compile(r"[^0-9.\-eE+][^0-9]*$")


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
    if requirement.op == "==":
        digits = max(digits, len(str(abs(value.numerator))) + len(str(value.denominator)))
    upwards, strict = requirement.op in ("<=", "<"), requirement.op in ("<", ">")
    dimension, scale = DIMENSIONS[requirement.unit], Fraction(1)
    if requirement.parent_ratio is not None:
        if not parent:
            return None
        value, unit, upwards = value / parent, "x", upwards == (parent > 0)
    elif unit == "%" and dimension == units.COUNT:
        scale = Fraction(1, 100)
    elif unit not in ("", "%") and unit in units.UNITS and units.UNITS[unit][1] == dimension:
        scale = units.UNITS[unit][0]
    elif (
        dimension == units.COUNT and value.denominator == 1 and (abs(value) < 10**6 or requirement.op == "==")
    ):
        beyond = value + (strict if upwards else -strict)
        return Written(plain(beyond), beyond)
    else:  # a unit that suits its size, if the user wrote none: `5.861B`, `76.2GiB`
        digits += 1
        found = _UNIT.search(units.format_quantity(value, dimension, digits))
        unit = "" if found is None else found[0].strip()
        scale = units.parse_quantity(f"1{unit}").value
    number = round_to(value / scale, digits, upwards, strict)
    return Written(f"{plain(number)}{' ' if 'tok' in unit else ''}{unit}", number * scale)


def round_to(value: Fraction, digits: int, upwards: bool, strict: bool = False) -> Fraction:
    """Round up or down to `digits` significant digits, to another number if `strict`, else keeping short whole numbers."""
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
