"""Refusals: every request needs the token, our Host, and no foreign Origin. And work that goes on when nobody waits."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("starlette", reason="`pip install '.[explore]'`")

from puzzledsl.explore.application import HEADERS, Guard, Message, guarded

GUARD = Guard("secret", 4711)
HOST = ("host", "127.0.0.1:4711")
ORIGIN = ("origin", "http://127.0.0.1:4711")


@pytest.mark.parametrize(
    ("why", "method", "path", "headers"),
    [
        ("", "GET", "/secret/", [HOST]),
        ("", "GET", "/secret/assets/strip.js", [HOST, ("sec-fetch-site", "same-origin")]),
        ("", "GET", "/secret/", [HOST, ("sec-fetch-site", "none")]),
        ("", "GET", "/secret/", [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")]),
        ("", "POST", "/secret/answer", [HOST, ORIGIN]),
        ("", "POST", "/secret/answer", [("Host", "localhost:4711"), ("Origin", "http://localhost:4711")]),
        ("token", "GET", "/", [HOST]),
        ("token", "GET", "/secret", [HOST]),
        ("token", "GET", "/Secret/", [HOST]),
        ("token", "GET", "/secret2/", [HOST]),
        ("token", "GET", "//secret/", [HOST]),
        ("token", "POST", "/wrong/text", [HOST, ORIGIN]),
        ("token", "GET", "/sécret/", [HOST]),
        ("host", "GET", "/secret/", []),
        ("host", "GET", "/secret/", [HOST, HOST]),
        ("host", "GET", "/secret/", [("host", "127.0.0.1")]),
        ("host", "GET", "/secret/", [("host", "rebound.example:4711")]),
        ("host", "GET", "/secret/", [("host", "127.0.0.1:4711.example")]),
        ("origin", "POST", "/secret/text", [HOST]),
        ("origin", "POST", "/secret/text", [HOST, ("origin", "null")]),
        ("origin", "POST", "/secret/text", [HOST, ("origin", "https://127.0.0.1:4711")]),
        ("origin", "POST", "/secret/text", [HOST, ("origin", "http://evil.example")]),
        ("origin", "POST", "/secret/text", [HOST, ("origin", "http://127.0.0.1:4712")]),
        ("origin", "POST", "/secret/text", [HOST, ("origin", "http://localhost:4711")]),
        ("origin", "GET", "/secret/", [HOST, ("origin", "http://evil.example")]),
        ("origin", "POST", "/secret/text", [HOST, ORIGIN, ("sec-fetch-site", "cross-site")]),
        ("origin", "GET", "/secret/", [HOST, ("sec-fetch-site", "same-site")]),
        ("origin", "GET", "/secret/", [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "iframe")]),
    ],
)
def test_the_page_itself_may_ask_and_nobody_else(
    why: str, method: str, path: str, headers: list[tuple[str, str]]
) -> None:
    assert GUARD.refusal(method, path, [(n.encode(), v.encode()) for n, v in headers]) == why


def test_browsers_leave_out_port_80() -> None:
    sent = [(b"host", b"127.0.0.1"), (b"origin", b"http://127.0.0.1")]
    assert Guard("secret", 80).refusal("POST", "/secret/answer", sent) == ""
    assert Guard("secret", 4711).refusal("POST", "/secret/answer", sent) == "host"


def sent(path: str, kind: str = "http") -> list[Message]:
    """Return the answer of a guarded application."""
    found: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})

    async def send(message: Message) -> None:
        found.append(message)

    scope = {"type": kind, "method": "GET", "path": path, "headers": [(b"host", b"127.0.0.1:4711")]}
    asyncio.run(guarded(app, GUARD)(scope, None, send))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("path", "status"), [("/secret/", 200), ("/else/", 403)])
def test_every_answer_has_the_headers(path: str, status: int) -> None:
    start, body = sent(path)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert start["status"] == status and headers.items() >= HEADERS.items()
    assert (body["body"] == b"inside") == (status == 200)
    for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
        assert rule in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


def test_a_web_socket_gets_no_answer() -> None:
    assert sent("/secret/", "websocket") == []
