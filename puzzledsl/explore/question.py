"""A question of the page: other bounds, statements left out, alternatives pinned or forbidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from puzzledsl.alternatives.alternative import SubBlock

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
            choices = tuple(sorted(_choice(each) for each in value.get("choices", [])))
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
