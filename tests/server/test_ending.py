"""The end of a session, as the protocol defines it: 0 after `shutdown` and `exit`, 1 after `exit` alone, no traceback."""

from __future__ import annotations

import pytest

from tests.server.stdio import Server


@pytest.mark.parametrize(("asked", "code"), [(["shutdown", "exit"], 0), (["exit"], 1), ([], 0)])
def test_the_exit_code_is_the_protocols(asked: list[str], code: int) -> None:
    server = Server()
    server.initialize()
    if "shutdown" in asked:
        server.ask("shutdown")
    if "exit" in asked:
        server.send("exit")
    assert server.end() == (code, "")
