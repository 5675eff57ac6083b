"""Who may ask: every request has the token in its path, names this server as its Host, and comes from its own page.

A page of another site can send requests to 127.0.0.1, and with DNS rebinding even read the answers: it knows neither the token,
nor can it send our Host or Origin. Answers forbid other origins to frame, load or cache them, and send no Referer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from secrets import compare_digest, token_urlsafe
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
NAMES = ("127.0.0.1", "localhost")
LARGEST_BODY = 1 << 16


@dataclass(frozen=True, slots=True)
class Guard:
    """The token and the port of a server."""

    token: str
    port: int

    @classmethod
    def new(cls, port: int) -> Guard:
        """Make a guard with a fresh token of 256 bits."""
        return cls(token_urlsafe(32), port)

    @property
    def address(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names under which this server may be asked."""
        named = tuple(f"{name}:{self.port}" for name in NAMES)
        return (*named, *NAMES) if self.port == 80 else named  # which browsers leave out

    def refusal(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the reason why a request is refused; empty if it is not."""
        found: dict[str, list[str]] = {}
        for name, value in headers:
            found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host, origin = found.get("host", []), found.get("origin", [])
        if len(host) != 1 or host[0] not in self.hosts:
            return "host"
        if origin and origin != [f"http://{host[0]}"]:
            return "origin"
        if method not in ("GET", "HEAD") and not origin:
            return "origin"
        if any(site not in ("same-origin", "none") for site in found.get("sec-fetch-site", [])) and not (
            method == "GET"
            and found.get("sec-fetch-dest") == ["document"]  # a link to the page, in a window of its own
        ):
            return "origin"
        given = path.split("/")[1] if path.count("/") > 1 else ""
        return "" if compare_digest(given.encode(), self.token.encode()) else "token"


def guarded(app: App, guard: Guard) -> App:
    """Return an application that refuses what the guard refuses, and adds HEADERS to every answer."""
    from starlette.responses import (
        PlainTextResponse,  # where the library may be missing, the guard is not asked
    )

    async def checked(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refused = guard.refusal(scope["method"], scope["path"], scope["headers"])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        answer = PlainTextResponse(f"refused: {refused}\n", 403) if refused else app
        await answer(scope, receive, with_headers)

    return checked
