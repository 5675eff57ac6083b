"""A question of the page: other bounds, statements left out, alternatives pinned or forbidden by patterns of the language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any, Literal, get_args

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, SubBlock
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.shape import Shape
from puzzledsl.language.calls import PRECISION

LONGEST = 60
"""Longest number that is taken for a bound."""


class BadQuestion(ValueError):
    """Raised for a question that the page cannot have asked, or a bound that is no number of its unit."""


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """Alternatives of a sub-block that are pinned (there is one) or forbidden."""

    layer: int
    sub_block: SubBlock
    kind: Literal["pin", "forbid"]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A variation of a search. `bounds`: numbers by bound, as written. `off`: numbers of statements that are left out."""

    bounds: Mapping[int, str] = field(default_factory=dict)
    off: frozenset[int] = frozenset()
    choices: tuple[Choice, ...] = ()

    @property
    def key(self) -> object:
        """Equal for equal questions."""
        return tuple(sorted(self.bounds.items())), self.off, self.choices

    @classmethod
    def read(cls, value: Any) -> Question:
        """Read what the page sends. Raises BadQuestion."""
        try:
            bounds = {int(number): str(text) for number, text in dict(value.get("bounds", {})).items()}
            off = frozenset(int(number) for number in value.get("off", []))
            choices = tuple(sorted(map(_choice, value.get("choices", []))))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise BadQuestion("this is no question") from error
        if any(len(text) > LONGEST for text in bounds.values()):
            raise BadQuestion("a bound is too long")
        return cls(bounds, off, choices)


def _choice(value: Any) -> Choice:
    sub_block, kind = value["sub_block"], value["kind"]
    if sub_block not in get_args(SubBlock) or kind not in ("pin", "forbid"):
        raise BadQuestion("this is no choice")
    return Choice(int(value["layer"]), sub_block, kind, tuple(sorted(map(str, value["names"]))))


def pattern_of(alternative: Alternative, others: tuple[Alternative, ...], shape: Shape) -> str | None:
    """Return the shortest pattern that matches one alternative of a layer and none of the others; None if there is none.

    `noop`, `mlp(width: 7168)`.
    """
    word = alternative.kind
    fields = [f for f in alternative.fields() if alternative.figure(f, shape) is not None]
    if any(other.dtype != alternative.dtype for other in others):
        fields.append(PRECISION)
    named = [other for other in others if other.answers_to(word, shape)]
    own = {field: _value(alternative, field, shape) for field in fields}
    for count in range(len(fields) + 1):
        for chosen in combinations(fields, count):
            alike = [a for a in named if all(_value(a, field, shape) == own[field] for field in chosen)]
            if alike == [alternative]:
                uncapped = {f for f in chosen if f == "window" and own[f] == UNCAPPED}
                inside = ", ".join(
                    f"{field}: {FULL if field in uncapped else own[field]}" for field in chosen
                )
                return f"{word}({inside})" if inside else word
    return None


def _value(alternative: Alternative, field: str, shape: Shape) -> Fraction | str | None:
    return (alternative.dtype or FULL) if field == PRECISION else alternative.figure(field, shape)
