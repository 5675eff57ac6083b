"""Progress for people (a rich bar on stderr, or plain lines without a terminal) and for machines (JSON lines)."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from puzzledsl.pipeline.process import interrupts

PLAIN_INTERVAL_S = 10.0


class Reporter:
    """A Progress that shows one bar at a time and appends every event to `log`. Use as a context manager."""

    def __init__(self, log: Path | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._log = log
        self._task: object | None = None
        self._name, self._total, self._done = "", 0, 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._finish()
        self._bar.stop()

    def start(self, task: str, total: int) -> None:
        """Begin a bar and finish the one before."""
        interrupts.check()
        self._finish()
        self._name, self._total, self._done = task, total, 0
        self._began = self._said = time.monotonic()
        if self._console.is_terminal:
            self._task = self._bar.add_task(task, total=total, figures="")
        else:
            print(f"  {task}: 0/{total}", file=sys.stderr, flush=True)

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        """Advance the bar."""
        interrupts.check()
        self._done += amount
        text = "  ".join(f"{k} {v if isinstance(v, str) else format(v, '.4g')}" for k, v in figures.items())
        if self._task is not None:
            self._bar.update(self._task, advance=amount, figures=text)  # type: ignore[arg-type]
        elif time.monotonic() - self._said > PLAIN_INTERVAL_S:
            self._said = time.monotonic()
            print(f"  {self._name}: {self._done}/{self._total}  {text}", file=sys.stderr, flush=True)

    def log(self, event: str, **fields: object) -> None:
        """Append one JSON line. A field `text` is also shown on stderr."""
        interrupts.check()
        if "text" in fields:
            self._console.print(f"  {fields['text']}", highlight=False, markup=False, soft_wrap=True)
        if self._log is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def say(self, text: str) -> None:
        """Print a line above the bar, on stderr."""
        self._finish()
        self._console.print(text, highlight=False, soft_wrap=True)

    def _finish(self) -> None:
        if self._task is not None:
            self._bar.stop_task(self._task)  # type: ignore[arg-type]
            self._task = None
        elif self._name and self._done:
            seconds = time.monotonic() - self._began
            print(
                f"  {self._name}: {self._done}/{self._total} in {seconds:.0f} s", file=sys.stderr, flush=True
            )
        self._name = ""
