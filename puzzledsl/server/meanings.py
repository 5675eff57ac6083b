"""What a name of a text can mean: something the program names, or a word of the language."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from puzzledsl.diagnostics import Span
from puzzledsl.ir.names import Symbol
from puzzledsl.server.vocabulary import Call, Setting


@dataclass(frozen=True, slots=True)
class Declared:
    """A name that the program gives: the file (`key`) and the place in it make two of them one.

    `kind` is a declaration's kind, or `let`, `param`, `fn`, `file`; `variable` and `parameter` where it is local.
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
    """A word of the language where it stands. `doc` explains it there; `owner` is what it belongs to."""

    name: str
    category: Category
    doc: str = ""
    owner: str = ""
    call: Call | None = field(default=None, compare=False, repr=False)
    setting: Setting | None = field(default=None, compare=False, repr=False)


Meaning = Declared | Word


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One name of a text. `declares`: it is here that the name is given. `within` is the declaration it stands in."""

    span: Span
    name: str
    meaning: Meaning | None
    declares: bool = False
    within: str = ""
