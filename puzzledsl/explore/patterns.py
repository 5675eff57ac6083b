"""An alternative of a layer as a pattern of the language that matches it alone: `noop`, `mlp(width: 7168)`."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, SubBlock
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.shape import Shape
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.language.alternatives import PRECISION


def alternatives_of(choice: LayerChoice, sub_block: SubBlock) -> tuple[Alternative, ...]:
    """Return the alternatives of a sub-block in a layer."""
    found: tuple[Alternative, ...] = choice.attention if sub_block == "attention" else choice.ffn
    return found


def pattern_of(alternative: Alternative, others: tuple[Alternative, ...], shape: Shape) -> str | None:
    """Return the shortest pattern that matches one alternative of a layer and none of the others; None if there is none."""
    word = alternative.kind
    fields = [f for f in alternative.fields() if alternative.figure(f, shape) is not None]
    if any(other.dtype != alternative.dtype for other in others):
        fields.append(PRECISION)
    for count in range(len(fields) + 1):
        for chosen in combinations(fields, count):
            if [a for a in others if _matches(a, alternative, chosen, shape)] == [alternative]:
                inside = ", ".join(f"{field}: {_written(alternative, field, shape)}" for field in chosen)
                return f"{word}({inside})" if inside else word
    return None


def _matches(other: Alternative, like: Alternative, fields: tuple[str, ...], shape: Shape) -> bool:
    if not other.answers_to(like.kind, shape):
        return False
    return all(_value(other, field, shape) == _value(like, field, shape) for field in fields)


def _value(alternative: Alternative, field: str, shape: Shape) -> Fraction | str | None:
    return (alternative.dtype or FULL) if field == PRECISION else alternative.figure(field, shape)


def _written(alternative: Alternative, field: str, shape: Shape) -> str:
    figure = _value(alternative, field, shape)
    return FULL if field == "window" and figure == UNCAPPED else str(figure)
