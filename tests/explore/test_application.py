"""Work in threads: nobody waits for it when the server ends, and it ends when the page is closed. Errors say what failed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="`pip install '.[explore]'`")

from puzzledsl.explore.application import Guard, application, in_thread
from puzzledsl.explore.desk import Desk
from puzzledsl.explore.sheet import Sheet
from tests.explore.programs import desk_of


def test_an_answer_after_the_end_of_the_server_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    work: list[threading.Thread] = []
    before, goes_on = {*threading.enumerate()}, threading.Event()

    async def serve() -> None:
        task = asyncio.create_task(in_thread(goes_on.wait))
        await asyncio.sleep(0)
        work.extend({*threading.enumerate()} - before)
        task.cancel()

    asyncio.run(serve())
    goes_on.set()
    for thread in work:
        thread.join(10)
    assert work and not said


def post(desk: Desk, route: str, closed: Callable[[], bool] = lambda: False, **more: Any) -> tuple[int, Any]:
    """Status and body of a question; the page closes the connection once `closed` is true."""
    guard = Guard.new(8000)
    asked = {"page": "p", "number": 1, "search": "best", "question": {}, **more}
    sent: list[Any] = []
    body: list[Any] = [{"type": "http.request", "body": json.dumps(asked).encode(), "more_body": False}]

    async def receive() -> Any:
        while not body and not closed():
            await asyncio.sleep(0.005)
        return body.pop() if body else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")]
    path = f"/{guard.token}/{route}"
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    asyncio.run(application(desk, guard, lambda: None)(scope, receive, send))
    found = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(found) if found else None


def test_an_error_says_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(tmp_path)

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "build/costs/wide.json")

    monkeypatch.setattr(Sheet, "answer", unreadable)
    said = {"error": "build/costs/wide.json: Input/output error"}
    assert post(desk, "answer", tried=0) == (500, said)
