"""What the words of the language take and mean: the shapes of the tables in words.py, calls.py and kinds.py.

The checker decides what is right. These tables say it in an editor, and tests hold them against the checker's own lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a body, or one argument of a call.

    `words` are read as themselves whatever else is called so; `calls` unless a `let`, `param` or `fn` has that name.
    `kinds` are the declarations it may name. `bare`: any word does that no `let` or `param` declares.
    """

    doc: str
    words: tuple[str, ...] = ()
    calls: Mapping[str, Call] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    bare: bool = False
    sums: bool = False  # its words are joined by `+` and `*`


@dataclass(frozen=True, slots=True)
class Call:
    """A word that builds something: `gqa(kv_heads: 8)`. The first `positional` arguments may stand without their names."""

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
        """The argument of a name, or the one that stands at a place without its name."""
        if self.named_by:
            return Setting("Its weight.") if name is not None else Setting("", kinds=self.named_by)
        if name is not None:
            return self.arguments.get(name)
        if place < self.positional or (self.rest and self.positional):
            return self.arguments[self.names[min(place, self.positional - 1)]]
        return None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of declaration. `form` is how it is written; `statements` are the keywords its body may hold."""

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
