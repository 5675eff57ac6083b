"""Dimensions in diagnostics: the description of a side, and the literal to write instead."""

from __future__ import annotations

import re
from fractions import Fraction

from puzzledsl.base.diagnostics import Fix, Span
from puzzledsl.base.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    DOLLARS,
    DOLLARS_PER_S,
    ENERGY,
    FLOP_PER_S,
    POWER,
    TIME,
    TOK_PER_S,
    TOKENS,
    Dimension,
    Quantity,
    format_quantity,
)
from puzzledsl.checker.expressions.search_values import Number, Symbolic
from puzzledsl.checker.expressions.values import describe

EXAMPLES: dict[Dimension, str] = {
    COUNT: "8",
    BYTES: "80GiB",
    TIME: "30ms",
    TOKENS: "4096tok",
    BYTES_PER_S: "450GB/s",
    FLOP_PER_S: "989TFLOP/s",
    TOK_PER_S: "200 tok/s",
    DOLLARS: "0.4USD",
    DOLLARS_PER_S: "2.5 USD/h",
    ENERGY: "300mJ",
    POWER: "700W",
}
_GIB = {"MiB": 2**20, "GiB": 2**30}


def label(value: Number) -> str:
    """Return the label shown under one side of a comparison: `a number, no unit`, `Bytes`."""
    if isinstance(value, Quantity) and value.form == "plain" and value.dimension == COUNT:
        return "a number, no unit"
    return describe(value)


def is_times(value: Number) -> bool:
    """Return True for a literal such as `2.17x`, a multiple of the parent's value."""
    return isinstance(value, Quantity) and value.form == "times"


def plain(value: Fraction) -> str:
    """Format a number as a literal without a unit: exactly if its decimals end, else to six digits."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if value.denominator == 1:
        return str(value.numerator)
    if denominator == 1 and value.denominator < 10**9:
        return f"{float(value):.12g}"
    return f"{float(value):.6g}"


def would_do(wanted: Dimension, given: Number) -> str:
    """Return a help line for a literal of the wrong dimension: a literal of dimension `wanted`. Empty if none is certain."""
    if isinstance(given, Symbolic):
        return ""
    if given.form == "percent" and wanted != COUNT:
        return f"write `{plain(given.value)}x` for {given} of the parent's, or a literal such as `{EXAMPLES.get(wanted, '1')}`"
    if given.dimension == COUNT and given.form == "plain" and given.value > 0:
        return _with_unit(wanted, given.value)
    if wanted == COUNT:
        return f"write a plain number, such as `{EXAMPLES[COUNT]}`, `4Ki` or `1.5B`"
    return f"write a literal such as `{EXAMPLES[wanted]}`" if wanted in EXAMPLES else ""


FEW_TOK_PER_S = 10
"""Throughput limit below which a bare number more likely means a multiple of the parent's than tokens per second."""


def times_instead(metric: Number, given: Number) -> str:
    """Return `1.5x` for a bare 1.5 compared with a throughput; empty if a multiple of the parent's is unlikely to be meant."""
    bare = isinstance(given, Quantity) and given.form == "plain" and given.dimension == COUNT
    if not bare or isinstance(metric, Quantity) or metric.dimension != TOK_PER_S:
        return ""
    assert isinstance(given, Quantity)
    return f"{plain(given.value)}x" if 0 < given.value < FEW_TOK_PER_S else ""


def unit_fixes(wanted: Dimension, given: Number, span: Span, source: str) -> list[Fix]:
    """Return fixes that replace the bare number `source` by the literals of `would_do`; safe if there is exactly one."""
    if not isinstance(given, Quantity) or given.dimension != COUNT or given.form != "plain":
        return []
    if not source.replace("_", "").replace(".", "").isdigit():  # a name, or a sum
        return []
    literals = re.findall("`([^`]+)`", _with_unit(wanted, given.value))  # that help quotes nothing else
    alone = len(literals) == 1 and wanted in (TOK_PER_S, TOKENS)
    return [Fix.replace(span, text, safe=alone) for text in literals]


def _with_unit(wanted: Dimension, number: Fraction) -> str:
    text = plain(number)
    if wanted == BYTES:
        if number >= 10**7:
            exact = format_quantity(number, BYTES, 3)
            return f"write `{plain(number / 1000)}kB` (= {exact}) or `{plain(number / 10**9)}GB`"
        if number >= 1000:
            exact = format_quantity(number * _GIB["MiB"], BYTES, 3)
            return f"write `{text}MiB` (= {exact}) or `{plain(number / 1000)}GiB`"
        return f"write `{text}GiB` or `{text}MiB`"
    if wanted == TIME:
        return f"write `{text}s` or `{text}ms`"
    if wanted == TOK_PER_S:
        return f"write `{text} tok/s`"
    if wanted == TOKENS:
        return f"write `{text}tok`"
    if wanted == BYTES_PER_S:
        return f"write `{text}GB/s`"
    if wanted == FLOP_PER_S:
        return f"write `{text}TFLOP/s`"
    return ""
