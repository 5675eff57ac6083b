"""The routes of the page, and checks of who may ask. Answers are computed in threads; those nobody waits for are given up.

Every request must have the token in its path, this server as its Host, and its own page as its Origin. A page of another site can
send requests to 127.0.0.1, and with DNS rebinding even read answers, but it does not know the token and cannot send our Host or
Origin. Answers forbid other origins to frame or load them, forbid browsers to cache them, and send no Referer.
"""

import asyncio
import json
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from typing import Any, Self, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.render import render_all, sources_for
from puzzledsl.explore import views
from puzzledsl.explore.desk import Desk, FileChanged, Stale
from puzzledsl.explore.sheet import BadQuestion, Question, Sheet

SLICES_S = (0.12, 1.0, 3.0)
"""Time limits of successive tries at an answer. The page shows each with its gap, and asks for the next if it is unproven."""
LAYER_S, CONFLICT_S = (0.5, 3.0), 5.0
ASSETS = ("explore.js", "strip.js", "explore.css", "icon.svg")
MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
QUESTIONS = ("answer", "layer", "conflict", "text")
"""Questions of the page: each is a route, and a method of `_Asked`."""
T = TypeVar("T")
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


class Guard:
    """Access rules of a server: its secret `token`, its page's `address`, and the Host headers that requests may have."""

    def __init__(self, token: str, port: int) -> None:
        named = tuple(f"{name}:{port}" for name in NAMES)
        self.token, self.address = token, f"http://127.0.0.1:{port}/{token}/"
        self.hosts = (*named, *NAMES) if port == 80 else named  # which browsers leave out

    @classmethod
    def new(cls, port: int) -> Self:
        """Make a guard with a fresh token of 256 bits."""
        return cls(token_urlsafe(32), port)

    def refusal(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the reason to refuse a request, `host`, `origin` or `token`; an empty string if it is allowed."""
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


def application(desk: Desk, guard: Guard, ready: Callable[[], None]) -> App:
    """Return the ASGI application: the routes behind the guard. `ready` is called once, when the server has started."""
    served = _Served(desk)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ready()
        yield

    routes = [Route("/{token}/", served.page), Route("/{token}/assets/{name}", served.asset)]
    routes += [Route(f"/{{token}}/{name}", served.asked(name), methods=["POST"]) for name in QUESTIONS]
    return guarded(Starlette(routes=routes, lifespan=lifespan), guard)


async def in_thread(work: Callable[[], T]) -> T:
    """Run a function in a daemon thread and return its result. The end of the process does not wait for the thread."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_: Callable[[Any], None], value: object) -> None:
        if not done.done():
            set_(value)

    def run() -> None:
        try:
            found = work()
        except BaseException as error:
            finish: tuple[Callable[[Any], None], object] = done.set_exception, error
        else:
            finish = done.set_result, found
        with suppress(RuntimeError):  # the server has ended meanwhile, and its loop is closed
            loop.call_soon_threadsafe(settle, *finish)

    threading.Thread(target=run, daemon=True).start()
    return await done


class _Served:
    """Functions of the routes."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._background = threading.Lock()

    async def page(self, request: Request) -> Response:
        """Return the page of the wanted search; if the file has mistakes, a page with its diagnostics."""
        wanted = request.query_params.get("search")

        def made() -> Response:
            try:
                return HTMLResponse(views.page_view(*self.desk.opened(wanted)))
            except DiagnosticError as error:
                texts = sources_for(error.diagnostics, {}, [Path(), self.desk.file.parent])
                said = render_all(error.diagnostics, texts, color=False)
                return HTMLResponse(views.filled("mistakes.html.j2", file=self.desk.file.name, said=said))

        return await in_thread(made)

    async def asset(self, request: Request) -> Response:
        """Return one of ASSETS (a style sheet, a script or the icon); 404 for any other name."""
        name = request.path_params["name"]
        if name not in ASSETS:
            return PlainTextResponse("not found\n", status_code=404)
        return Response(views.filled(name), media_type=MEDIA_TYPES[name.rpartition(".")[2]])

    def asked(self, name: str) -> Callable[[Request], Any]:
        """Return the route of a question of QUESTIONS: JSON in, JSON out; 204 without a body for a stale question."""

        async def route(request: Request) -> Response:
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > LARGEST_BODY:
                    return JSONResponse({"error": "the question is too large"}, status_code=413)
            gone = threading.Event()
            closing = asyncio.create_task(_when_closed(request, gone))
            try:
                asked = partial(_Asked, self.desk, self._background, body, gone)
                found = await in_thread(lambda: getattr(asked(), name)())
                return JSONResponse(found)
            except Stale:
                return Response(status_code=204)
            except Exception as error:
                status, said = _refusal(error)
                return JSONResponse({"error": said}, status_code=status)
            finally:
                closing.cancel()

        return route


def _refusal(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and message for an error: 400 a wrong question, 409 a changed file, 500 any other error."""
    match error:
        case FileChanged():
            return 409, str(error)
        case BadQuestion():
            return 400, str(error)
        case DiagnosticError():
            return 400, render_all(error.diagnostics, {}, color=False)
        case OSError():  # of a table, or of a temporary file
            return 500, (f"{error.filename}: " if error.filename else "") + f"{error.strerror or error}"
    traceback.print_exception(error)  # in full where the command runs
    return 500, f"internal error ({type(error).__name__}: {error}): a fault of pzl, not of your file"


async def _when_closed(request: Request, gone: threading.Event) -> None:
    """Set `gone` when the page closes the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()


class _Asked:
    """One request of a page: its search, question and question number, with a method that answers each of QUESTIONS."""

    def __init__(self, desk: Desk, background: threading.Lock, text: bytes, gone: threading.Event) -> None:
        self._gone, self._background = gone, background
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadQuestion("this is no question") from error
        if not isinstance(body, dict):
            raise BadQuestion("this is no question")
        self.desk, self.body = desk, body
        self.page, self.number = str(body.get("page", ""))[:64], self.whole("number", 2**53)
        try:
            self.sheet: Sheet = desk.sheet_of_page(str(body.get("search")), body.get("digest"))
        except KeyError:
            raise BadQuestion("there is no such search any more: load the page again") from None
        self.question = Question.read(body.get("question"))

    def still_wanted(self) -> None:
        """Raise Stale if the page has asked something newer, or has closed the connection."""
        if self._gone.is_set():
            raise Stale
        self.desk.check(self.page, self.number)

    def whole(self, name: str, most: int) -> int:
        """Return the field `name` of the body, an integer from 0 to `most`. Raises BadQuestion for anything else."""
        value = self.body.get(name)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise BadQuestion(f"there is no {name} {value!r}")
        return value

    def answer(self) -> dict[str, Any]:
        """Return the view of the best child, solved for the time of one try; `next`: the number of the next try, or None."""
        tried = self.whole("tried", len(SLICES_S) - 1)
        self.desk.newest(self.page, self.number)
        began = time.perf_counter()
        found = self.sheet.answer(self.question, SLICES_S[tried])
        ms = (time.perf_counter() - began) * 1000
        self.still_wanted()
        more = found.result.status in ("feasible", "unknown") and tried + 1 < len(SLICES_S)
        view = views.answer_view(self.sheet, self.question, found, ms)
        return {**view, "number": self.number, "next": tried + 1 if more else None}

    def layer(self) -> dict[str, Any]:
        """Return one layer's alternatives as HTML; with `regrets` in the body, with the cost of each."""
        from puzzledsl.ir.tables import WhyResult

        layer = self.whole("layer", len(self.sheet.space.layers) - 1)
        regrets: WhyResult | None = None
        if self.body.get("regrets"):
            with self._background:
                for time_s in LAYER_S:
                    self.still_wanted()
                    found = self.sheet.why(self.question, layer, time_s)
                    regrets = found if isinstance(found, WhyResult) else None
                    if regrets is None or views.is_exact(regrets):
                        break
        return {"html": views.layer_view(self.sheet, layer, regrets), "layer": layer}

    def conflict(self) -> dict[str, Any]:
        """Return the requirements that exclude each other, and bounds that could be met."""
        with self._background:
            self.still_wanted()
            found = self.sheet.answer(self.question, CONFLICT_S, with_conflict=True)
        return views.conflict_view(self.sheet, self.question, found)

    def text(self) -> dict[str, Any]:
        """Return the `require` lines that the question changes or adds, to copy into the program."""
        return {"lines": views.changed_lines(self.sheet, self.question)}
