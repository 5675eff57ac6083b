"""The file behind the page: read once, checked for changes on disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import DiagnosticError, Mistake, Sink
from puzzledsl.explore.sheet import Sheet, Source
from puzzledsl.syntax.parse import read_source

if TYPE_CHECKING:
    from puzzledsl.api.program import Program


NothingToExplore = Mistake(
    "E0682", "{what}, so there is nothing to explore", "declare a search, or name a file that has one"
)


class FileChanged(Exception):
    """Raised when the file on disk is not the one that the page was made from."""


class Stale(Exception):
    """Raised when the page has asked something newer or was closed, so that nobody waits for this any more."""


class Desk:
    """A program with its sheets. Safe for several threads."""

    def __init__(self, file: Path, build: Path | None, params: dict[str, str]) -> None:
        """Load and check the file. Raises DiagnosticError."""
        self.file, self._build, self._params = file, build, params
        self._lock = threading.RLock()
        self._newest: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        """Read everything again. After a mistake all stays as it was, and the next `refresh` tries once more."""
        from puzzledsl.api.program import Program
        from puzzledsl.pipeline.compile import open_program
        from puzzledsl.pipeline.inputs import tables_version

        sink = Sink()
        text = read_source(self.file, sink)
        if text is None:
            raise DiagnosticError(*sink.items)
        opened = open_program(self.file, self._params, self._build, text)
        if opened.context is None:
            raise DiagnosticError(*opened.diagnostics)
        others = {name: used for name, used in opened.sources.items() if Path(name).is_file()}
        self._texts = {**others, str(self.file): text}
        self.digest = _digest(self._texts)
        self._context, self._tables = opened.context, tables_version(opened.context)
        self.program: Program = Program(opened.context, opened.diagnostics, opened.sources)
        self.searches = list(self.program.ir.searches)
        assert opened.found is not None, "the program was read"
        self.source = Source(opened.found.root, opened.found.compared)
        self._sheets: dict[str, Sheet] = {}

    def _has_new_tables(self) -> bool:
        """True if the costs or scores are not those of the last reading."""
        from puzzledsl.pipeline.inputs import tables_version

        return tables_version(self._context) != self._tables

    def refresh(self) -> None:
        """Read the program again if it or its tables have changed on disk. Raises DiagnosticError if it has mistakes now."""
        with self._lock:
            on_disk = _digest({name: read_source(name, Sink()) for name in self._texts})
            if on_disk != self.digest or self._has_new_tables():
                self._load()

    def opened(self, wanted: str | None) -> tuple[Sheet, list[str], str]:
        """Return a search for a new page, the names of all, and the digest, of one reading. Raises DiagnosticError."""
        with self._lock:
            self.refresh()
            return self.sheet(self.chosen(wanted)), self.searches, self.digest

    def chosen(self, name: str | None) -> str:
        """Return the search to show: the one named, else the first that is ready. Raises DiagnosticError."""
        from puzzledsl.pipeline.compile import chosen

        if name is not None:
            chosen("search", self.program.ir.searches, [name], self.file, "solve")
        elif not self.searches:
            raise DiagnosticError(NothingToExplore(None, what=f"{self.file.name} has no search"))
        errors: list[DiagnosticError] = []
        for each in self.searches if name is None else [name]:
            try:
                return self.sheet(each).name
            except DiagnosticError as error:
                errors.append(error)
        raise errors[0]

    def sheet_of_page(self, name: str, digest: str | None) -> Sheet:
        """Return the search that a page shows. Raises KeyError; FileChanged for a page of an earlier reading or tables."""
        with self._lock:
            if digest not in (None, self.digest):
                raise FileChanged(f"{self.file.name} was read again: load the page again")
            if self._has_new_tables():
                raise FileChanged(f"costs or scores of {self.file.name} have changed: load the page again")
            return self.sheet(name)

    def sheet(self, name: str) -> Sheet:
        """Return a search, read and warm. Raises DiagnosticError if a table that it needs is missing, KeyError for no search."""
        with self._lock:
            if name not in self._sheets:
                if name not in self.searches:
                    raise KeyError(name)
                self._sheets[name] = Sheet(self.program, name, self.source, self._params)
            return self._sheets[name]

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


def _digest(texts: Mapping[str, str | None]) -> str:
    parts = chain.from_iterable(sorted((name, text or "") for name, text in texts.items()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
