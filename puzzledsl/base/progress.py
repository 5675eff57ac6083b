"""Progress of long work: what a stage says of it, which the CLI shows as a bar and writes to a JSON-lines log."""

from dataclasses import dataclass


class Progress:
    """Receiver of one stage's progress. This one ignores all of it, as library calls and tests do."""

    def start(self, task: str, total: int) -> None:
        """Begin a named task of `total` units. It becomes the current task; tasks follow each other."""

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        """Set-up is done: the time that is left is estimated from what the units take from here on.

        `work`: all that is to be done, in the stage's own measure (FLOP, tokens), of which `advance` says what each unit was;
        None: as said before, or units are alike. `at_once`: units that run side by side, so that the first of them end together.
        `cold`: first units that take longer than others of their work, because caches fill.
        """

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        """Report `amount` more finished units; `figures` (loss, tokens_per_s …) are shown beside the bar.

        `kept`: an earlier run finished these units; the time that is left is estimated from the others, by their `work`.
        """

    def log(self, event: str, **fields: object) -> None:
        """Write one structured line to the log file."""


Silent = Progress  # The progress that nobody sees.


@dataclass
class Part(Progress):
    """Progress of `units` units of a longer bar, `whole`, which takes them for so much of its own `work`."""

    whole: Progress
    units: int
    work: float
    figures: dict[str, float | str]
    _share: float = 0.0  # Work of the whole for one of this part's own measure.

    def start(self, task: str, total: int) -> None:
        """Take `total` units for this part's work."""
        self.ready(total)

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        """Take so much work for what is left of this part's. The whole measures its pace from here on, as it was set up."""
        if work is not None:
            self._share = self.work / work if work else 0.0
        self.whole.ready()

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        """Count units of the whole."""
        done = self._share * (amount if work is None else work)
        self.units, self.work = self.units - amount, self.work - done
        self.whole.advance(amount, kept=kept, work=done, **self.figures, **figures)

    def log(self, event: str, **fields: object) -> None:
        """Pass the line on."""
        self.whole.log(event, **fields)

    def end(self) -> None:
        """Count what was not reported: all of it was there before if the part never began."""
        self.whole.advance(self.units, kept=not self._share, work=self.work, **self.figures)
