"""Progress of long work. Stages know only this protocol; the CLI implements it with a progress bar and a JSON-lines log."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of one stage's progress."""

    def start(self, task: str, total: int) -> None:
        """Begin a named task of `total` units. It becomes the current task; tasks follow each other."""

    def advance(self, amount: int = 1, *, kept: bool = False, **figures: float | str) -> None:
        """Report `amount` more finished units; `figures` (loss, tokens_per_s …) are shown beside the bar.

        `kept`: an earlier run finished these units; the time that is left is estimated from the others.
        """

    def log(self, event: str, **fields: object) -> None:
        """Write one structured line to the log file."""


class Silent:
    """Progress that reports nothing: the default for library calls and tests."""

    def start(self, task: str, total: int) -> None:
        """Ignore."""

    def advance(self, amount: int = 1, *, kept: bool = False, **figures: float | str) -> None:
        """Ignore."""

    def log(self, event: str, **fields: object) -> None:
        """Ignore."""
