"""Numbers in the unit the user wrote: `2.12x` beside `2.17x`, `31.2s` beside `30s`."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from puzzledsl.ir.nodes import LinearRequirement
from puzzledsl.units import BYTES, COUNT, TIME, TOK_PER_S, UNITS, Dimension, format_quantity

DIMENSIONS: dict[str, Dimension] = {"": COUNT, "bytes": BYTES, "seconds": TIME, "tokens_per_s": TOK_PER_S}
DIGITS = 3
_LITERAL = re.compile(r"(?P<digits>\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-zµ/%]*)")


def in_users_unit(requirement: LinearRequirement, value: Fraction, parent: Fraction) -> str:
    """A value of the left side, written like the bound. Rounded away from the bound, so that it never seems to meet it."""
    literal = _LITERAL.fullmatch(requirement.bound_where.text.strip())
    digits = DIGITS if literal is None else max(DIGITS, _significant(literal["digits"]))
    upwards = requirement.op in ("<=", "<")
    if requirement.parent_ratio is not None:
        return f"{rounded(value / parent, digits, upwards == (parent > 0))}x" if parent else ""
    dimension = DIMENSIONS[requirement.unit]
    unit = None if literal is None else literal["unit"]
    if unit == "%" and dimension == COUNT:
        return f"{rounded(value * 100, digits, upwards)}%"
    if unit and unit != "%" and UNITS.get(unit, (0, None))[1] == dimension:
        space = " " if "tok" in unit else ""
        return f"{rounded(value / UNITS[unit][0], digits, upwards)}{space}{unit}"
    if dimension == COUNT and value.denominator == 1 and abs(value) < 10**6:
        return str(value)
    return format_quantity(value, dimension, digits + 1)


def _significant(digits: str) -> int:
    return len(re.sub(r"[eE].*|[._]", "", digits).lstrip("0"))


def rounded(value: Fraction, digits: int, upwards: bool) -> str:
    """Plain decimal text with `digits` significant digits, rounded up or down; whole numbers below 10^digits are exact."""
    if value == 0:
        return "0"
    power = digits - 1 - math.floor(math.log10(abs(float(value))))
    scaled = value * Fraction(10) ** power
    whole = math.ceil(scaled) if upwards else math.floor(scaled)
    if power <= 0:
        return str(whole * 10**-power)
    sign, text = "-" if whole < 0 else "", str(abs(whole)).rjust(power + 1, "0")
    return f"{sign}{text[:-power]}.{text[-power:]}".rstrip("0").rstrip(".")
