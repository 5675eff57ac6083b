"""A number with a unit, and the same in other units."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.base.units import BYTES, COUNT, TIME, BadLiteral, Quantity, format_quantity, parse_quantity

_GROUPED = 10**15


def explain_quantity(text: str) -> str | None:
    """Dimension and value of a literal; None for one that is wrong, which a diagnostic says."""
    try:
        quantity = parse_quantity(text)
    except BadLiteral:
        return None
    plain = _plain(quantity, text)
    return f"`{text}`: {_what(quantity)}" + (f" = {plain}" if plain else "")


def _what(quantity: Quantity) -> str:
    if quantity.form == "percent":
        return "a share"
    if quantity.form == "times":
        return "a multiple: beside a metric, of the parent's same metric"
    return "a plain number" if quantity.dimension == COUNT else quantity.dimension.name


def _plain(quantity: Quantity, text: str) -> str:
    value = quantity.value
    if quantity.form != "plain":
        return f"{float(value):.4g}"
    if quantity.dimension == BYTES:
        decimal = f"{float(value / 10**9):.4g}GB" if value >= 10**9 else ""
        exact = f"{value.numerator:,} bytes" if value.denominator == 1 and value < _GROUPED else ""
        binary = format_quantity(value, BYTES)
        return ", ".join(p for p in (exact, binary, decimal) if p and p != text)
    if quantity.dimension == TIME:
        return f"{_decimal(value)} s"
    if value.denominator == 1 and 1000 <= value < _GROUPED:
        return f"{value.numerator:,}"
    return ""


def _decimal(value: Fraction) -> str:
    return f"{float(value):.6g}"
