"""Meanings of names in a text: a name that the program declares, or a word of the language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.settings import Call, Setting
from puzzledsl.checker.expressions.values import Symbol


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared name. Two are the same if they have the same file (`key`) and place.

    `kind` is a declaration's kind, or `let`, `param`, `fn`, `file`; `variable` or `parameter` for a local name.
    """

    name: str
    kind: str = field(compare=False)
    key: str
    span: Span = field(compare=False)
    symbol: Symbol | None = field(default=None, compare=False, repr=False)
    place: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", (self.span.line, self.span.column))


Category = Literal["kind", "type", "setting", "call", "function", "metric", "fact", "space", "word"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the language in its context. `doc` explains it there; `owner` is the construct that it belongs to."""

    name: str
    category: Category
    doc: str = ""
    owner: str = ""
    call: Call | None = field(default=None, compare=False, repr=False)
    setting: Setting | None = field(default=None, compare=False, repr=False)


Meaning = Declared | Word


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One occurrence of a name. `declares`: this is its declaration. `within` is the enclosing declaration."""

    span: Span
    name: str
    meaning: Meaning | None
    declares: bool = False
    within: str = ""
