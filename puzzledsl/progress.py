"""How long work reports itself. Stages know this protocol only; the CLI gives it a rich progress bar and a JSON-lines log."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Reports one stage's work."""

    def start(self, task: str, total: int) -> None:
        """Begin a named task of `total` units (shown as a bar). Tasks may follow each other; the last one started is current."""

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        """`amount` more units are done; `figures` (loss, tokens_per_s …) are shown beside the bar."""

    def log(self, event: str, **fields: object) -> None:
        """One structured line for the log file."""


class Silent:
    """Reports nothing: the default of library calls and tests."""

    def start(self, task: str, total: int) -> None:
        """Ignore."""

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        """Ignore."""

    def log(self, event: str, **fields: object) -> None:
        """Ignore."""
