"""Differences between two programs, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from puzzledsl.base.frozen import record

Sign = Literal["+", "-", "~"]


@dataclass(frozen=True, slots=True)
class Detail:
    """One changed detail of a declaration. `old` is empty for an addition, `new` for a removal."""

    what: str
    old: str = ""
    new: str = ""

    @property
    def sign(self) -> Sign:
        """`+` added, `-` removed, `~` changed."""
        return "~" if self.old and self.new else "+" if self.new else "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One declaration that is added, removed or changed."""

    sign: Sign
    kind: str
    name: str
    details: tuple[Detail, ...] = ()


@record
class Pieces:
    """The jobs of one BLD: `make` are new (`tokens` to train them), `keep` are unchanged, `drop` are no longer needed."""

    make: int
    keep: int
    drop: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ProgramChanges:
    """All differences between two programs.

    `waiting` lists BLDs whose jobs are unknown until a search is solved. `again` lists the stages that must run again, in
    order; the pipeline fills it in.
    """

    changes: tuple[Change, ...]
    pieces: dict[str, Pieces]
    waiting: tuple[str, ...] = ()
    again: tuple[tuple[str, str], ...] = ()  # (stage, declaration)

    def __bool__(self) -> bool:
        return bool(self.changes)

    def count(self, sign: Sign) -> int:
        """Return the number of declarations that are added, changed or removed, by sign."""
        return sum(change.sign == sign for change in self.changes)

    def as_json(self) -> dict[str, object]:
        """Return the differences as a JSON object."""
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
            "pieces": {name: asdict(pieces) for name, pieces in self.pieces.items()},
            "again": [{"stage": stage, "name": name} for stage, name in self.again],
            "waiting": list(self.waiting),
            "summary": {"add": self.count("+"), "change": self.count("~"), "remove": self.count("-")},
        }
