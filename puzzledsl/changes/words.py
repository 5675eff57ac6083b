"""Expressions, requirements and figures of the IR in words, close to how a program writes them."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import assert_never

from puzzledsl.base.phrases import layers_in_words
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


# ---------------------------------------------------------------- expressions


def linear(value: nodes.Linear) -> str:
    """`kl`, `2 * sum(ffn.width, layers 0..79) + 3`."""
    parts = [_weighted(weighted) for weighted in value.terms]
    if value.constant or not parts:
        parts.append(format_quantity(value.constant, COUNT))
    text = parts[0]
    for part in parts[1:]:
        text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    return text


def _weighted(weighted: nodes.WeightedTerm) -> str:
    name, factor = term(weighted.term), weighted.coefficient
    if factor == 1:
        return name
    return f"-{name}" if factor == -1 else f"{float(factor):.6g} * {name}"


def term(value: nodes.Term) -> str:
    """One table's sum."""
    match value:
        case nodes.MetricTerm(scenario=scenario, metric=metric):
            return f"{scenario}.{metric}"
        case nodes.ScoreTerm(score=score):
            return score
        case nodes.ParamsTerm():
            return "params"
        case nodes.FactTerm(sub_block=sub_block, attribute=attribute, layers=layers):
            return f"sum({sub_block}.{attribute}, {layers_in_words(list(layers))})"
        case nodes.CountTerm(sub_block=sub_block, alternatives=names, layers=layers):
            return f"count({sub_block} is {' | '.join(names) or 'nothing'}, {layers_in_words(list(layers))})"
        case nodes.TableTerm(layers=layers):
            return f"sum(a table of what is chosen, {layers_in_words(list(layers))})"
        case _:
            assert_never(value)


def requirement(value: nodes.Requirement) -> str:
    """`chat.memory <= 76GiB`, `chat.throughput >= 2.17x`; a statement about layers as its program writes it."""
    if isinstance(value, nodes.LogicRequirement):
        return " ".join(written(value).split())
    if value.parent_ratio is not None:
        bound = f"{float(value.parent_ratio):.6g}x"
    else:
        bound = format_quantity(value.bound or Fraction(0), _UNITS[value.unit], 6)
    return f"{linear(value.left)} {value.op} {bound}"


def refine(value: nodes.Refine) -> str:
    """`measured(24, healed: 4096, samples: 2048, data: corpus)`."""
    data = "" if value.data is None else f", data: {value.data}"
    return f"measured({value.children}, healed: {value.healed}, samples: {value.samples}{data})"
