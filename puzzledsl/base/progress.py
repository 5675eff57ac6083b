"""Progress of long work: what a stage says of it, which the CLI shows as a bar and writes to a JSON-lines log."""

from __future__ import annotations


class Progress:
    """Receiver of one stage's progress. This one ignores all of it, as library calls and tests do."""

    def start(self, task: str, total: int) -> None:
        """Begin a named task of `total` units that take about equally long. It becomes the current task; tasks follow each other."""

    def advance(self, amount: int = 1, *, kept: bool = False, **figures: float | str) -> None:
        """Report `amount` more finished units; `figures` (loss, tokens_per_s …) are shown beside the bar.

        `kept`: an earlier run finished these units; the time that is left is estimated from the others.
        """

    def log(self, event: str, **fields: object) -> None:
        """Write one structured line to the log file."""


Silent = Progress
"""The progress that nobody sees."""
