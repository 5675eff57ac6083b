"""The routes of the page. Answers are computed in threads; what nobody waits for any more is given up between steps."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.render import render_all, sources_for
from puzzledsl.explore import views
from puzzledsl.explore.conflicts import conflict_view
from puzzledsl.explore.desk import CannotWrite, Desk, FileChanged, Stale
from puzzledsl.explore.guard import LARGEST_BODY, App, Guard, guarded
from puzzledsl.explore.question import BadQuestion, Question
from puzzledsl.explore.sheet import Sheet

SLICES_S = (0.12, 1.0, 3.0)
"""Seconds of each try at an answer: the first is shown at once, with its gap; the page asks for the next by itself."""
POINT_S, LAYER_S, CONFLICT_S = 1.0, (0.5, 3.0), 5.0
ASSETS = {
    "explore.js": ("explore.js", "text/javascript"),
    "strip.js": ("strip.js", "text/javascript"),
    "explore.css": ("explore.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
T = TypeVar("T")


def application(desk: Desk, guard: Guard, ready: Callable[[], None]) -> App:
    """Return the ASGI application: the routes behind the guard. `ready` is called when the server runs and minds Ctrl-C."""
    served = _Served(desk)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ready()
        yield

    routes = [
        Route("/{token}/", served.page),
        Route("/{token}/assets/{name}", served.asset),
        *(
            Route(f"/{{token}}/{name}", served.asked(answer), methods=["POST"])
            for name, answer in {
                "answer": served.answer,
                "layer": served.layer,
                "frontier": served.frontier,
                "conflict": served.conflict,
                "compare": served.compare,
                "text": served.text,
                "save": served.save,
            }.items()
        ),
    ]
    return guarded(Starlette(routes=routes, lifespan=lifespan), guard)


async def in_thread(work: Callable[[], T]) -> T:
    """Run a function in a thread that nobody waits for when the process ends."""
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


class _Asked:
    """Request of a page: its question, the number of it, and the search."""

    def __init__(self, desk: Desk, body: Any, gone: threading.Event) -> None:
        self._gone = gone
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
        """Return a number of the body from 0 to `most`. Raises BadQuestion."""
        value = self.body.get(name)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise BadQuestion(f"there is no {name} {value!r}")
        return value


class _Served:
    """Functions of the routes."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._background = threading.Lock()

    async def page(self, request: Request) -> Response:
        """Return the page; after a mistake in the file, its diagnostics."""
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
        """Return a style sheet, a script or the icon."""
        found = ASSETS.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("not found\n", status_code=404)
        return Response(views.filled(found[0]), media_type=found[1])

    def asked(self, answer: Callable[[_Asked], dict[str, Any]]) -> Callable[[Request], Any]:
        """Return the route of a question: JSON in, JSON out.

        204: nobody waits for the answer any more; 400: a wrong question; 409: the file has changed; 500: a fault.
        """

        async def route(request: Request) -> Response:
            body = await _body(request)
            if body is None:
                return JSONResponse({"error": "the question is too large"}, status_code=413)
            gone = threading.Event()
            closing = asyncio.create_task(_when_closed(request, gone))
            try:
                return JSONResponse(await in_thread(lambda: answer(_Asked(self.desk, _json(body), gone))))
            except Stale:
                return Response(status_code=204)
            except FileChanged as error:
                return JSONResponse({"error": str(error)}, status_code=409)
            except BadQuestion as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            except DiagnosticError as error:
                return JSONResponse(
                    {"error": render_all(error.diagnostics, {}, color=False)}, status_code=400
                )
            except CannotWrite as error:
                return JSONResponse({"error": str(error)}, status_code=500)
            except OSError as error:  # of a table, or of a temporary file
                named = f"{error.filename}: " if error.filename else ""
                return JSONResponse({"error": f"{named}{error.strerror or error}"}, status_code=500)
            except Exception as error:  # told on the page, and in full where the command runs
                traceback.print_exc()
                said = f"internal error ({type(error).__name__}: {error}): a fault of pzl, not of your file"
                return JSONResponse({"error": said}, status_code=500)
            finally:
                closing.cancel()

        return route

    # ------------------------------------------------------------ questions

    def answer(self, asked: _Asked) -> dict[str, Any]:
        """The best child, in the time of one try. A page's next question makes this one stale."""
        tried = asked.whole("tried", len(SLICES_S) - 1)
        self.desk.newest(asked.page, asked.number)
        began = time.perf_counter()
        found = asked.sheet.answer(asked.question, SLICES_S[tried])
        ms = (time.perf_counter() - began) * 1000
        asked.still_wanted()
        more = found.status in ("feasible", "unknown") and tried + 1 < len(SLICES_S)
        view = views.answer_view(asked.sheet, asked.question, found, ms)
        return {**view, "number": asked.number, "next": tried + 1 if more else None}

    def layer(self, asked: _Asked) -> dict[str, Any]:
        """The alternatives of one layer, with what each would cost."""
        layer = asked.whole("layer", len(asked.sheet.space.layers) - 1)
        if not asked.body.get("regrets"):
            return {"html": views.layer_view(asked.sheet, layer, None), "layer": layer}
        from puzzledsl.api.regrets import Regrets

        regrets: Regrets | None = None
        with self._background:
            for time_s in LAYER_S:
                asked.still_wanted()
                found = asked.sheet.why(asked.question, layer, time_s)
                regrets = found if isinstance(found, Regrets) else None
                if regrets is None or views.is_exact(regrets):
                    break
        return {"html": views.layer_view(asked.sheet, layer, regrets), "layer": layer}

    def frontier(self, asked: _Asked) -> dict[str, Any]:
        """The objective along one bound, other requirements as they are."""
        bound = self._bound(asked)
        sheet, question = asked.sheet, asked.question
        solved, texts = [], []
        with self._background:
            for each in sheet.along(question, bound, views.POINTS):
                asked.still_wanted()
                text = each.bounds[bound.number]
                solved.append((views.amount(text), sheet.answer(each, POINT_S)))
                texts += [text] * (solved[-1][1].objective is not None)
        named = [(views.NOW, views.amount(question.bounds.get(bound.number, bound.text)), question)]
        if "kept" in asked.body:
            kept = Question.read(asked.body["kept"])
            named.append((views.KEPT, views.amount(kept.bounds.get(bound.number, bound.text)), kept))
        shown = []
        for name, x, each in named:
            asked.still_wanted()
            shown.append((name, x, sheet.answer(each, POINT_S)))
        return {"html": views.frontier_view(sheet, bound, solved, shown), "texts": texts}

    @staticmethod
    def _bound(asked: _Asked) -> Any:
        number = asked.whole("bound", 10_000)
        if number not in asked.sheet.bounds:
            raise BadQuestion("there is no such bound")
        return asked.sheet.bounds[number]

    def conflict(self, asked: _Asked) -> dict[str, Any]:
        """The requirements that exclude each other."""
        with self._background:
            asked.still_wanted()
            found = asked.sheet.explain(asked.question, CONFLICT_S)
        return conflict_view(asked.sheet, asked.question, found)

    def compare(self, asked: _Asked) -> dict[str, Any]:
        """Two answers side by side."""
        kept = asked.sheet.answer(Question.read(asked.body.get("kept")), POINT_S)
        asked.still_wanted()
        now = asked.sheet.answer(asked.question, POINT_S)
        return views.comparison_view(kept, now)

    def text(self, asked: _Asked) -> dict[str, Any]:
        """The edited lines, and how the file would change."""
        found = asked.sheet.edited(asked.question)
        return {"lines": found.lines, "diff": found.diff}

    def save(self, asked: _Asked) -> dict[str, Any]:
        """Write the file."""
        if asked.body.get("digest") != self.desk.digest:
            raise FileChanged(f"{self.desk.file.name} was written meanwhile: load the page again")
        self.desk.save(asked.sheet, asked.question)
        return {"saved": str(self.desk.file)}


def _json(body: bytes) -> Any:
    """Return a body as JSON. Raises BadQuestion."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadQuestion("this is no question") from error


async def _when_closed(request: Request, gone: threading.Event) -> None:
    """Set `gone` when the page closes the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()


async def _body(request: Request) -> bytes | None:
    """Return the body of a request; None for one that no question needs."""
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > LARGEST_BODY:
            return None
    return found
