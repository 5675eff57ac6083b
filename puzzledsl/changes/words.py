"""Expressions, requirements and figures of the IR in words, close to how a program writes them."""

from __future__ import annotations

import json
import re
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
from puzzledsl.ir.logic import layers_of

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
    """`chat.memory <= 76GiB`, `chat.throughput >= 2.17x`, or a statement about layers."""
    if isinstance(value, nodes.LogicRequirement):
        return logic(value.formula)
    if value.parent_ratio is not None:
        bound = f"{float(value.parent_ratio):.6g}x"
    else:
        bound = format_quantity(value.bound or Fraction(0), _UNITS[value.unit], 6)
    return f"{linear(value.left)} {value.op} {bound}"


def refine(value: nodes.Refine) -> str:
    """`measured(24, healed: 4096, samples: 2048, data: corpus)`."""
    data = "" if value.data is None else f", data: {value.data}"
    return f"measured({value.children}, healed: {value.healed}, samples: {value.samples}{data})"


def logic(value: nodes.Logic) -> str:
    """`layers[3].attention is noop implies layers[2].attention is not noop`."""
    match value:
        case nodes.Is():
            return _is(value, "is")
        case nodes.Not(operand=nodes.Is() as operand):
            return _is(operand, "is not")
        case nodes.Not(operand=operand):
            return f"not ({logic(operand)})"
        case nodes.And(operands=operands):
            return " and ".join(map(_bracketed, operands)) or "true"
        case nodes.Or(operands=operands):
            return " or ".join(map(_bracketed, operands)) or "false"
        case nodes.Implies(condition=condition, consequence=consequence):
            return f"{_bracketed(condition)} implies {_bracketed(consequence)}"
        case nodes.Compare(left=left, op=op, bound=bound):
            return f"{linear(left)} {op} {format_quantity(bound, COUNT)}"
        case nodes.Same(left=one, right=other, sub_blocks=parts):
            part = f".{parts[0]}" if len(parts) == 1 else ""
            return f"layers[{one}]{part} same as layers[{other}]{part}"
        case nodes.Runs(statements=statements) | nodes.Longest(statements=statements):
            return _bounded(value, _of_each_layer(statements))
        case nodes.Distinct(taken=taken):
            return _bounded(value, _values(taken))
        case _:
            assert_never(value)


def _is(value: nodes.Is, word: str) -> str:
    return f"layers[{value.layer}].{value.sub_block} {word} {' | '.join(value.alternatives) or 'nothing'}"


def _bracketed(value: nodes.Logic) -> str:
    text = logic(value)
    inner = value.operand if isinstance(value, nodes.Not) else value
    joined = isinstance(value, nodes.And | nodes.Or | nodes.Implies)
    simple = isinstance(inner, nodes.Is) if isinstance(value, nodes.Not) else not joined
    return text if simple else f"({text})"


# ---------------------------------------------------------------- runs, values and equal choices

MOST_VALUES = 6
"""Values of `distinct` that are written out; of more, only the number is."""


def _bounded(figure: nodes.Runs | nodes.Longest | nodes.Distinct, what: str) -> str:
    """`1 <= runs(attention is noop, layers 4..20) <= 2`."""
    text, least, most = f"{figure.kind}({what})", figure.at_least, figure.at_most
    if least == most:
        return f"{text} == {least}"
    if most is None:
        return f"{text} >= {least}"
    return f"{least} <= {text} <= {most}" if least else f"{text} <= {most}"


def _of_each_layer(statements: tuple[nodes.Logic, ...]) -> str:
    """A statement that is the same of each layer, without the layer's name; and the layers."""
    layers = sorted(frozenset().union(*map(layers_of, statements)))
    texts = {_without_layer(statement) for statement in statements}
    what = texts.pop() if len(texts) == 1 else "a statement of each layer"
    return f"{what}, {layers_in_words(layers)}"


def _values(taken: tuple[nodes.Taken, ...]) -> str:
    """Each value as the choices that take it, or how many values there are; and the layers."""
    choices: dict[str, list[str]] = {}
    for each in taken:
        here: dict[str, list[tuple[str, str]]] = {}
        for row, attention in zip(each.values, each.attention or ("",), strict=True):
            for value, ffn in zip(row, each.ffn or ("",), strict=True):
                here.setdefault(value, []).append((attention, ffn))
        for value, pairs in here.items():
            choices.setdefault(value, []).append(_taken_by(pairs) if each.layers else "true")
    whats = [" or ".join(dict.fromkeys(texts)) for texts in choices.values()]
    shown = ", ".join(whats) if len(whats) <= MOST_VALUES else f"{len(whats)} values"
    return f"{shown}; {layers_in_words(sorted({layer for each in taken for layer in each.layers}))}"


def _taken_by(pairs: list[tuple[str, str]]) -> str:
    """`ffn is mlp50 | noop`, `attention is gqa2 and ffn is noop`."""
    if not all(attention and ffn for attention, ffn in pairs):
        part = "attention" if pairs[0][0] else "ffn"
        return f"{part} is {' | '.join(attention or ffn for attention, ffn in pairs)}"
    return " or ".join(f"attention is {attention} and ffn is {ffn}" for attention, ffn in pairs)


def _without_layer(statement: nodes.Logic) -> str:
    return re.sub(r"\blayers\[\d+\]\.", "", logic(statement))
