"""What two programs differ in, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sign = Literal["+", "-", "~"]


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing of a declaration. `old` is empty where it is new, `new` where it is gone."""

    what: str
    old: str = ""
    new: str = ""

    @property
    def sign(self) -> Sign:
        """`+` new, `-` gone, `~` otherwise than before."""
        return "~" if self.old and self.new else "+" if self.new else "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One declaration that is new, gone, or means something else."""

    sign: Sign
    kind: str
    name: str
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True, slots=True)
class Pieces:
    """The jobs of one BLD: `make` are new (with their training tokens), `keep` are as before, `drop` no longer needed."""

    make: int
    keep: int
    drop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ProgramChanges:
    """All of it. `again` names the stages that run again, in their order; `waiting` BLDs known once a search is solved."""

    changes: tuple[Change, ...]
    pieces: dict[str, Pieces]
    again: tuple[tuple[str, str], ...]  # (stage, declaration)
    waiting: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def count(self, sign: Sign) -> int:
        """How many declarations are new, changed or gone."""
        return sum(change.sign == sign for change in self.changes)

    def as_json(self) -> dict[str, object]:
        """For machines."""
        return {
            "format_version": "1.0",
            "changes": [
                {
                    "action": {"+": "add", "-": "remove", "~": "change"}[c.sign],
                    "kind": c.kind,
                    "name": c.name,
                    "details": [
                        {"what": d.what, "old": d.old or None, "new": d.new or None} for d in c.details
                    ],
                }
                for c in self.changes
            ],
            "pieces": {
                name: {"make": p.make, "keep": p.keep, "drop": p.drop, "tokens": p.tokens}
                for name, p in self.pieces.items()
            },
            "again": [{"stage": stage, "name": name} for stage, name in self.again],
            "waiting": list(self.waiting),
            "summary": {"add": self.count("+"), "change": self.count("~"), "remove": self.count("-")},
        }
