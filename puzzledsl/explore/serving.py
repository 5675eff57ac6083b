"""Serving of the page of `pzl explore` on 127.0.0.1 until Ctrl-C."""

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError, Mistake
from puzzledsl.base.files import scratch
from puzzledsl.explore.desk import Desk
from puzzledsl.explore.sheet import Question

LIBRARIES = {"starlette": "Starlette", "uvicorn": "uvicorn"}
FIRST_S = 1.0
"""Time limit of the first solve of the unchanged search, before the page is served."""
WAIT_S = 1
"""Seconds that answers in progress may still take when the server ends."""


ExploreNeedsAServer = Mistake(
    "E0681",
    "the page is served by Starlette and uvicorn; not installed: {missing}",
    "`pip install 'puzzledsl[explore]'`",
)
PortIsTaken = Mistake(
    "E0683", "port {port} of 127.0.0.1 cannot be had: {reason}", "leave `--port` out, and a free one is taken"
)


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
    """Serve a program's page until Ctrl-C. `started` gets the address; `browser`: open it. Raises DiagnosticError."""
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
    """Write a page that redirects to an address; return its path. Others can read a process's arguments, so no token is there."""
    link = folder / "explore.html"
    link.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', "utf-8")
    return link


def _listen(port: int) -> socket.socket:
    """Return a listening socket of 127.0.0.1; `port` 0: a free one. Raises DiagnosticError (E0683) if it is taken."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=64)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise DiagnosticError(PortIsTaken(None, port=port, reason=reason)) from error
