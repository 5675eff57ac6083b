"""Work in threads that nobody waits for when the server ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("starlette", reason="`pip install '.[explore]'`")

from puzzledsl.explore.application import in_thread


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
