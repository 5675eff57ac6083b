"""Expressions, requirements and figures of the IR in words, close to how a program writes them."""

from __future__ import annotations

import json
from fractions import Fraction

from puzzledsl.base.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    FLOP_PER_S,
    REQ_PER_S,
    TIME,
    TOK_PER_S,
    Dimension,
    format_quantity,
)
from puzzledsl.ir import nodes
from puzzledsl.ir.search_nodes import written

_UNITS: dict[str, Dimension] = {
    "": COUNT,
    "bytes": BYTES,
    "seconds": TIME,
    "tokens_per_s": TOK_PER_S,
    "requests_per_s": REQ_PER_S,
}
_SUFFIXES = (
    ("traffic.rate", REQ_PER_S),
    ("_bytes_per_s", BYTES_PER_S),
    ("flop_per_s", FLOP_PER_S),
    ("_bytes", BYTES),
    ("_s", TIME),
)


def figure(path: str, value: object) -> str:
    """A field of a declaration: sizes and times in units, everything else as it is."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, str) and not _is_number(value):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    leaf = path.rsplit(".", 1)[-1]
    whole = path if "flop_per_s." in path or path == "traffic.rate" else leaf
    for suffix, dimension in _SUFFIXES:
        if whole.endswith(suffix) or (suffix == "flop_per_s" and "flop_per_s." in whole):
            return format_quantity(Fraction(str(value)), dimension, 6)
    if isinstance(value, str):
        return f"{float(Fraction(value)):.6g}"
    return str(value)


def _is_number(text: str) -> bool:
    return bool(text) and text.lstrip("-").replace("/", "", 1).isdigit()


def requirement(value: nodes.Requirement) -> str:
    """`chat.memory <= 76GiB`, `chat.throughput >= 2.17x`; a statement about layers as its program writes it."""
    if isinstance(value, nodes.LogicRequirement):
        return " ".join(written(value).split())
    if value.parent_ratio is not None:
        bound = f"{float(value.parent_ratio):.6g}x"
    else:
        bound = format_quantity(value.bound or Fraction(0), _UNITS[value.unit], 6)
    return f"{' '.join(value.where.text.split())} {value.op} {bound}"


def refine(value: nodes.Refine) -> str:
    """`measured(24, healed: 4096, samples: 2048, data: corpus)`."""
    data = "" if value.data is None else f", data: {value.data}"
    return f"measured({value.children}, healed: {value.healed}, samples: {value.samples}{data})"
