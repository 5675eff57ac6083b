"""Progress of long work: a stage reports it to a `Progress`; the CLI's shows a bar and writes a JSON-lines log."""

from dataclasses import dataclass


class Progress:
    """Receiver of a stage's progress. This class ignores every report; library calls and tests use it."""

    def start(self, task: str, total: int) -> None:
        """Begin a named task of `total` units. It replaces the task before; only one runs at a time."""

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        """Report the end of set-up: the remaining time is estimated from the time that units take from here on.

        `work`: the work of all remaining units, in the stage's own measure (FLOP, tokens), in which `advance` reports each unit;
        None: as reported before, or all units are alike. `at_once`: number of units that run side by side, so that the first of
        them end together. `cold`: number of first units that take longer for their work, because caches fill.
        """

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        """Report `amount` more finished units. `work`: their work; `figures` (loss, tokens_per_s …) are shown beside the bar.

        `kept`: an earlier run finished these units, so the estimate of the remaining time ignores how fast they came.
        """

    def log(self, event: str, **fields: object) -> None:
        """Write one structured line to the log file."""


Silent = Progress  # Progress that is not shown.


@dataclass
class Part(Progress):
    """Progress of a part: `units` units of the task that `whole` shows, for which `whole` counts `work` of its own work."""

    whole: Progress
    units: int
    work: float
    figures: dict[str, float | str]
    _share: float = 0.0  # Work of the whole for one unit of work of this part.

    def start(self, task: str, total: int) -> None:
        """Count `total` units as the work of this part, in its own measure."""
        self.ready(total)

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        """Set the work left in this part, in its own measure. The whole measures its pace from here on."""
        if work is not None:
            self._share = self.work / work if work else 0.0
        self.whole.ready()

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        """Report the units to the whole, with their share of its work."""
        done = self._share * (amount if work is None else work)
        self.units, self.work = self.units - amount, self.work - done
        self.whole.advance(amount, kept=kept, work=done, **self.figures, **figures)

    def log(self, event: str, **fields: object) -> None:
        """Pass the line on."""
        self.whole.log(event, **fields)

    def end(self) -> None:
        """Report the units that were not reported yet. If the part never began, an earlier run finished them (`kept`)."""
        self.whole.advance(self.units, kept=not self._share, work=self.work, **self.figures)
