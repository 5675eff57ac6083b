"""The program behind the page: it is read once, and again when the file or a table has changed on disk."""

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
    """Raised when the program, or a table of it, is no longer the one that the page was made from."""


class Stale(Exception):
    """Raised to give up an answer that nobody waits for: the page has asked something newer, or was closed."""


class Desk:
    """A program with one `Sheet` for each search that was asked for. Safe for several threads."""

    def __init__(self, file: Path, build: Path | None, params: dict[str, str]) -> None:
        """Load and check the file. `params`: values of its `param`s. Raises DiagnosticError if it has mistakes."""
        self.file, self._build, self._params = file, build, params
        self._lock = threading.RLock()
        self._newest: dict[str, int] = {}
        self._load()

    def _load(self) -> None:
        """Read everything again. If there are mistakes, raises DiagnosticError and changes nothing; `refresh` tries again."""
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
        """Return what a new page shows: a search's sheet, the names of all searches, and the digest. Raises DiagnosticError."""
        with self._lock:
            self.refresh()
            return self.sheet(self.chosen(wanted)), self.searches, self.digest

    def chosen(self, name: str | None) -> str:
        """Return the search to show: `name`, else the first whose tables exist. Raises DiagnosticError if there is none."""
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
        """Return a page's sheet. Raises FileChanged if the page's digest (None: any) or tables are outdated, else as `sheet`."""
        with self._lock:
            if digest not in (None, self.digest):
                raise FileChanged(f"{self.file.name} was read again: load the page again")
            if self._has_new_tables():
                raise FileChanged(f"costs or scores of {self.file.name} have changed: load the page again")
            return self.sheet(name)

    def sheet(self, name: str) -> Sheet:
        """Return the sheet of a search, cached. Raises KeyError for no search, DiagnosticError if a table is missing."""
        with self._lock:
            if name not in self._sheets:
                if name not in self.searches:
                    raise KeyError(name)
                self._sheets[name] = Sheet(self.program, name, self.source, self._params)
            return self._sheets[name]

    def newest(self, page: str, number: int) -> None:
        """Record the number of a page's newest question. Its questions with lower numbers are stale from now on."""
        with self._lock:
            self._newest[page] = max(number, self._newest.get(page, 0))
            while len(self._newest) > 64:
                del self._newest[next(iter(self._newest))]

    def check(self, page: str, number: int) -> None:
        """Raise Stale if the page has asked a question with a higher number."""
        if self._newest.get(page, 0) > number:
            raise Stale


def _digest(texts: Mapping[str, str | None]) -> str:
    parts = chain.from_iterable(sorted((name, text or "") for name, text in texts.items()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
