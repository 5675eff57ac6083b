"""Progress for people (a rich bar on stderr, or plain lines without a terminal) and for machines (JSON lines)."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from puzzledsl.base.phrases import duration
from puzzledsl.base.progress import Progress
from puzzledsl.pipeline.process import interrupts

PLAIN_INTERVAL_S = 10.0
"""Most seconds between two lines where there is no terminal."""
TOGETHER = 0.01
"""Share of the time of the first unit within which others end with it: of several at once, the first ones end together."""


@dataclass
class _Count:
    """Units of one bar, by whose pace the time that is left is estimated.

    `made`: units of this run. `first`: those that ended first, with the set-up before them, which do not count for the pace once
    there are others; `first_s`, `last_s`: the ends of the first and of the last unit.
    """

    title: str
    total: int
    began_s: float
    done: int = 0
    made: int = 0
    first: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, amount: int, *, kept: bool) -> None:
        self.done += amount
        if kept or not amount:
            return
        self.made, self.last_s = self.made + amount, time.monotonic()
        if not self.first:
            self.first_s = self.last_s
        if self.last_s - self.first_s <= TOGETHER * (self.first_s - self.began_s):
            self.first = self.made

    @property
    def left_s(self) -> float | None:
        """Seconds that the other units take at the pace so far, less what the present one has taken; None before the first."""
        if not self.made:
            return None
        made, since_s = self.made - self.first, self.first_s
        if not made:
            made, since_s = self.made, self.began_s
        left = max(self.total - self.done, 0)
        present_s = time.monotonic() - self.last_s if left else 0.0
        return max(0.0, (self.last_s - since_s) / made * left - present_s)

    def __str__(self) -> str:
        left = f", {duration(time.monotonic() - self.began_s)}"
        if self.left_s is not None:
            left = f", about {duration(self.left_s)} left" if self.left_s else ""
        return f"{self.title}: {self.done}/{self.total}{left}"


class Reporter(Progress):
    """A Progress that shows one bar at a time and appends every event to `log`. Use as a context manager.

    Without a terminal, a thread writes a line where nothing else did for PLAIN_INTERVAL_S.
    """

    def __init__(self, log: Path | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._log = log
        self._task: object | None = None
        self._stage: dict[str, object] = {}
        self._count: _Count | None = None
        self._figures = ""
        self._said = self._stage_began = time.monotonic()
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._finish()
        self._bar.stop()

    def start(self, task: str, total: int) -> None:
        """Begin a bar and finish the one before."""
        interrupts.check()
        self._finish()
        self._count, self._figures = _Count(task, total, time.monotonic()), ""
        if self._console.is_terminal:
            self._task = self._bar.add_task(task, total=total, figures="")
        else:
            self._print(f"{task}: 0/{total}")

    def advance(self, amount: int = 1, *, kept: bool = False, **figures: float | str) -> None:
        """Advance the bar."""
        interrupts.check()
        if (count := self._count) is None:
            return
        count.add(amount, kept=kept)
        self._figures = "  ".join(
            f"{k} {v if isinstance(v, str) else format(v, '.4g')}" for k, v in figures.items()
        )
        if self._task is not None:
            left = "" if count.left_s is None else f"{duration(count.left_s)} left"
            self._bar.update(self._task, advance=amount, figures=f"{left}  {self._figures}")  # type: ignore[arg-type]
        elif time.monotonic() - self._said > PLAIN_INTERVAL_S:
            self._print(f"{count}  {self._figures}".rstrip())

    def log(self, event: str, **fields: object) -> None:
        """Append one JSON line. A field `text` is also shown on stderr."""
        interrupts.check()
        if event in ("start", "end", "failed"):
            self._finish()
            self._stage = {key: fields.get(key) for key in ("stage", "name")} if event == "start" else {}
            self._stage_began = time.monotonic()
        if "text" in fields:
            self._said = time.monotonic()
            self._console.print(f"  {fields['text']}", highlight=False, markup=False, soft_wrap=True)
        self._append(event, fields)

    def say(self, text: str) -> None:
        """Print a line above the bar, on stderr."""
        self._finish()
        self._said = time.monotonic()
        self._console.print(text, highlight=False, soft_wrap=True)

    def _append(self, event: str, fields: dict[str, object]) -> None:
        if self._log is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def _print(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"  {text}", file=sys.stderr, flush=True)

    def _break_silence(self) -> None:
        while not self._ended.wait(PLAIN_INTERVAL_S / 10):
            now, count = time.monotonic(), self._count
            if now - self._said < PLAIN_INTERVAL_S:
                continue
            if count is not None:
                self._print(f"{count}  {self._figures}".rstrip())
            elif self._stage:
                title = " ".join(str(value) for value in self._stage.values() if value)
                self._print(f"{title}: {duration(now - self._stage_began)}")

    def _finish(self) -> None:
        count, self._count = self._count, None
        if self._task is not None:
            self._bar.remove_task(self._task)  # type: ignore[arg-type]
            self._task = None
        if count is not None and count.done:
            self._print(
                f"{count.title}: {count.done}/{count.total} in {time.monotonic() - count.began_s:.0f} s"
            )
