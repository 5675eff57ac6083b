"""Arguments and meanings of the language's words: the types of the tables in words.py, calls.py and kinds.py.

The checker alone decides validity. These tables only describe it to editors; tests compare them with the checker's
own lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a body, or one argument of a call.

    `words` mean themselves even if a declaration has the same name; `calls` do unless a `let`, `param` or `fn` has
    it. `kinds` are the declarations that it can name. `bare`: accepts any word that no `let` or `param` declares.
    """

    doc: str
    words: tuple[str, ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    bare: bool = False
    sums: bool = False  # its words are joined by `+` and `*`


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor, such as `gqa(kv_heads: 8)`. Its first `positional` arguments can be given without names."""

    doc: str
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    positional: int = 0
    rest: bool = False  # the last positional argument may be repeated
    named_by: tuple[str, ...] = ()  # its arguments have the names of declarations of these kinds

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its arguments."""
        return tuple(self.arguments)

    def argument(self, name: str | None, place: int) -> Setting | None:
        """Return the argument called `name`, or the one at index `place` given without a name."""
        if self.named_by:
            return Setting("Its weight.") if name is not None else Setting("", kinds=self.named_by)
        if name is not None:
            return self.arguments.get(name)
        if place < self.positional or (self.rest and self.positional):
            return self.arguments[self.names[min(place, self.positional - 1)]]
        return None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of declaration. `form` is its syntax; `statements` are the keywords that its body can contain."""

    doc: str
    form: str
    preposition: str = ""
    targets: tuple[str, ...] = ()
    value: Setting | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)
    statements: tuple[str, ...] = ("let", "assert")
    has_body: bool = True
    sees_space: bool = False  # its expressions see `layers`, `attention`, `params` …
