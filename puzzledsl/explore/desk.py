"""The file behind the page, read once and checked for changes on disk; and its server on 127.0.0.1, until Ctrl-C."""

from __future__ import annotations

import hashlib
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Sink
from puzzledsl.base.files import scratch
from puzzledsl.explore.sheet import Question, Sheet, Source
from puzzledsl.syntax.parse import read_source

if TYPE_CHECKING:
    from puzzledsl.api.program import Program


class NothingToExplore(Diagnostic, code="E0682", template="{what}, so there is nothing to explore"):
    """A program, or a search, that `pzl explore` cannot show."""

    help_template = "declare a search, or name a file that has one"


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
        from puzzledsl.pipeline.inputs import tables_version
        from puzzledsl.pipeline.opening import open_program

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


LIBRARIES = {"starlette": "Starlette", "uvicorn": "uvicorn"}
FIRST_S = 1.0  # Seconds for the answer to the search as it is, before the page is there.
WAIT_S = 1  # Seconds that answers in progress have when the server ends.


class ExploreNeedsAServer(Diagnostic, code="E0681"):
    """`pzl explore` without Starlette or uvicorn."""

    template = "the page is served by Starlette and uvicorn; not installed: {missing}"
    help_template = "`pip install 'puzzledsl[explore]'`"


class PortIsTaken(Diagnostic, code="E0683", template="port {port} of 127.0.0.1 cannot be had: {reason}"):
    """A port that another program listens on."""

    help_template = "leave `--port` out, and a free one is taken"


def check_libraries() -> None:
    """Raise DiagnosticError (E0681) if a library that serves the page is not installed."""
    missing = [title for name, title in LIBRARIES.items() if find_spec(name) is None]
    if missing:
        raise DiagnosticError(ExploreNeedsAServer(None, missing=", ".join(missing)))


def serve(
    file: Path,
    search: str | None,
    build: Path | None,
    params: dict[str, str],
    *,
    port: int,
    started: Callable[[str], None],
    browser: bool,
) -> None:
    """Serve a program's page until Ctrl-C; `started` is called with the address. Raises DiagnosticError for a mistake."""
    check_libraries()
    desk = Desk(file, build, params)
    name = desk.chosen(search)
    desk.sheet(name).answer(Question(), FIRST_S)  # loads the solver before anybody waits for it
    import uvicorn

    from puzzledsl.explore.application import Guard, application

    with _listen(port) as listening, scratch("explore") as folder:
        guard = Guard.new(listening.getsockname()[1])
        address = guard.address if search is None else f"{guard.address}?search={name}"

        def ready() -> None:
            started(address)
            if browser:
                link = private_link(folder, address)
                threading.Thread(target=webbrowser.open, args=(link.as_uri(),), daemon=True).start()

        config = uvicorn.Config(
            application(desk, guard, ready),
            http="h11",
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=WAIT_S,
        )
        with suppress(KeyboardInterrupt):  # raised again by uvicorn once it has shut down
            uvicorn.Server(config).run(sockets=[listening])


def private_link(folder: Path, address: str) -> Path:
    """Write a file that leads to an address: the arguments of a browser's process are no place for a token."""
    link = folder / "explore.html"
    link.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', "utf-8")
    return link


def _listen(port: int) -> socket.socket:
    """Return a listening socket of 127.0.0.1. Raises DiagnosticError (E0683)."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise DiagnosticError(PortIsTaken(None, port=port, reason=reason)) from error
    listening.listen(64)
    return listening
