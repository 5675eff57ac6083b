"""The file behind the page: read once, checked for changes on disk, written when asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import DiagnosticError, Sink
from puzzledsl.base.files import write_text
from puzzledsl.explore.errors import NothingToExplore
from puzzledsl.explore.question import Question
from puzzledsl.explore.sheet import Sheet
from puzzledsl.explore.sources import Source
from puzzledsl.ir.nodes import CpSat
from puzzledsl.syntax.parse import read_source

if TYPE_CHECKING:
    from puzzledsl.api.program import Program


class FileChanged(Exception):
    """Raised when the file on disk is not the one that the page was made from."""


class Stale(Exception):
    """Raised when the page has asked something newer, so that nobody waits for this any more."""


class Desk:
    """A program with its sheets. Safe for several threads."""

    def __init__(self, file: Path, build: Path | None, params: dict[str, str]) -> None:
        """Load and check the file. Raises DiagnosticError."""
        self.file, self._build, self._params = file, build, params
        self._lock = threading.RLock()
        self._newest: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        from puzzledsl.api.loading import load

        self.digest = self._on_disk()
        sink = Sink()
        text = read_source(self.file, sink)
        if text is None:
            raise DiagnosticError(*sink.items)
        self.program: Program = load(self.file, build=self._build, **self._params)
        self.source = Source(text, str(self.file))
        self._sheets: dict[str, Sheet] = {}

    def _on_disk(self) -> str:
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError:
            return ""

    def refresh(self) -> None:
        """Read the file again if it has changed on disk. Raises DiagnosticError if it has mistakes now."""
        with self._lock:
            if self._on_disk() != self.digest:
                self._load()

    @property
    def searches(self) -> list[str]:
        """The searches that can be explored: those that are solved exactly."""
        declared = self.program.ir.searches.items()
        return [name for name, search in declared if isinstance(search.solver, CpSat)]

    def chosen(self, name: str | None) -> str:
        """Return the search to show: the one named, else the first that is ready. Raises DiagnosticError."""
        from puzzledsl.pipeline.targets import chosen

        if name is not None:
            chosen("search", self.program.ir.searches, [name], self.file, "solve")
            if name not in self.searches:
                raise DiagnosticError(NothingToExplore(None, what=f"the solver of `{name}` is a heuristic"))
            self.sheet(name)
            return name
        if not self.searches:
            raise DiagnosticError(
                NothingToExplore(None, what=f"{self.file.name} has no search that is solved exactly")
            )
        first: DiagnosticError | None = None
        for each in self.searches:
            try:
                self.sheet(each)
            except DiagnosticError as error:
                first = first or error
            else:
                return each
        assert first is not None
        raise first

    def sheet(self, name: str) -> Sheet:
        """Return a search, read and warm. Raises DiagnosticError if a table that it needs is missing, KeyError for no search."""
        with self._lock:
            if name not in self._sheets:
                if name not in self.searches:
                    raise KeyError(name)
                sheet = Sheet(self.program, name, self.source, self._params)
                assert sheet.statements is not None  # reads the tables
                self._sheets[name] = sheet
            return self._sheets[name]

    # ------------------------------------------------------------ what is waited for

    def newest(self, page: str, number: int) -> None:
        """Record that a page has asked its question of this number; older ones are stale from now on."""
        with self._lock:
            self._newest[page] = max(number, self._newest.get(page, 0))
            while len(self._newest) > 64:
                del self._newest[next(iter(self._newest))]

    def check(self, page: str, number: int) -> None:
        """Raise Stale if the page has asked a newer question."""
        if self._newest.get(page, 0) > number:
            raise Stale

    # ------------------------------------------------------------ writing

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        with self._lock:
            if self._on_disk() != self.digest:
                raise FileChanged(f"{self.file.name} has changed on disk: load the page again to see it")
            yield

    def save(self, sheet: Sheet, question: Question) -> None:
        """Write the file with a question in it: to a temporary name, then renamed. Raises FileChanged, BadQuestion, OSError."""
        with self._unchanged():
            if sheet.source is not self.source:
                raise FileChanged(f"{self.file.name} was read again: load the page again")
            found = sheet.edited(question)
        with self._unchanged():
            write_text(self.file.resolve(), found.text)
            self._load()
