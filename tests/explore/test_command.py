"""The command: its address, who is refused, how it ends, and what it never loads."""

import errno
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cli import main
from puzzledsl.explore import serving
from tests.api.programs import write_program
from tests.documents import ROOT
from tests.explore.programs import VARIED, desk_of
from tests.explore.serving import Served, served

NEEDS = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, serving.LIBRARIES)), reason="`pip install '.[explore]'`"
)
QUESTION = {"page": "p", "number": 1, "search": "best", "question": {"bounds": {"0": "1.25x"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(write_program(tmp_path_factory.mktemp("program"), VARIED)) as running:
        yield running
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=60) == 0 and running.process.stderr is not None
        assert running.process.stderr.read() == "", "Ctrl-C ends it without a word"


def asked(
    server: Served, method: str, path: str, body: object = None, **headers: str | None
) -> tuple[int, bytes]:
    """Status and body of a request as the page sends it, with some headers changed or left out."""
    place = urlsplit(server.address)
    own = {"host": place.netloc, "origin": f"http://{place.netloc}", "content-type": "application/json"}
    sent = {name: value for name, value in (own | headers).items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    for name, value in {**sent, "content-length": str(len(data))}.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@NEEDS
def test_only_the_page_is_answered(server: Served) -> None:
    path = urlsplit(server.address).path
    assert asked(server, "GET", path, origin=None)[0] == 200
    assert asked(server, "GET", "/x" + path, origin=None) == (403, b"refused: token\n")
    assert asked(server, "POST", path + "answer", QUESTION, host="evil.example") == (403, b"refused: host\n")
    assert asked(server, "POST", path + "text", QUESTION, origin=None) == (403, b"refused: origin\n")
    assert asked(server, "GET", path + "assets/none.js", origin=None) == (404, b"not found\n")
    for wrong in (b"{", 7):
        told = asked(server, "POST", path + "answer", wrong)
        assert told == (400, b'{"error":"this is no question"}')
    status, body = asked(server, "POST", path + "answer", {**QUESTION, "tried": 0})
    assert status == 200 and json.loads(body)["status"] in ("optimal", "feasible")


@NEEDS
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"question": {"bounds": {"0": "1.25GiB"}}}, 400),
        ({"question": None}, 400),
        ({"question": {"off": [float("inf")]}}, 400),
        ({"digest": "of an earlier reading"}, 409),
        ({"search": "bst"}, 400),
        ({"tried": 9}, 400),
        ({"tried": "x"}, 400),
        ({"number": "x"}, 400),
        ({"question": {"bounds": {"0": "9" * 70_000}}}, 413),
    ],
)
def test_a_wrong_question_is_told(server: Served, change: dict[str, object], status: int) -> None:
    path = urlsplit(server.address).path
    got, body = asked(server, "POST", path + "answer", {**QUESTION, "tried": 0, **change})
    assert got == status and json.loads(body)["error"]


@NEEDS
def test_nobody_waits_for_an_old_question(server: Served) -> None:
    path = urlsplit(server.address).path
    newer = {**QUESTION, "page": "q", "number": 7, "tried": 0}
    assert asked(server, "POST", path + "answer", newer)[0] == 200
    older = {**QUESTION, "page": "q", "number": 6, "layer": 0, "regrets": True}
    assert asked(server, "POST", path + "layer", older)[0] == 204


@NEEDS
def test_it_listens_on_this_machine_alone(server: Served) -> None:
    port = urlsplit(server.address).port
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    places = {fields[1] for fields in listening if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"}
    assert places == {f"0100007F:{port:04X}"}


@NEEDS
def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DiagnosticError, match="cannot be had: address already in use"):
            serving._listen(port)


def test_missing_libraries_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert main.run(["explore", str(write_program(tmp_path))]) == 1
    said = capsys.readouterr().err
    assert "E0681" in said and "pip install 'puzzledsl[explore]'" in said


def test_a_search_that_cannot_be_shown_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match="no search called `bst`"):
        desk_of(tmp_path).chosen("bst")
    with pytest.raises(DiagnosticError, match="has no search"):
        desk_of(tmp_path, VARIED[: VARIED.index("search best")]).chosen(None)
    desk = desk_of(tmp_path)
    (tmp_path / "kl.csv").unlink()
    with pytest.raises(DiagnosticError, match=r"^cannot read the score table `kl.csv`: [^;]*$"):
        desk.chosen(None)


@NEEDS
def test_an_error_says_what_failed() -> None:
    from puzzledsl.explore.application import _refusal

    error = OSError(errno.EIO, os.strerror(errno.EIO), "build/costs/wide.json")
    assert _refusal(error) == (500, "build/costs/wide.json: Input/output error")
    assert _refusal(KeyError(7)) == (500, "internal error (KeyError: 7): a fault of pzl, not of your file")


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from puzzledsl.explore import views
from puzzledsl.explore.desk import Desk
from puzzledsl.explore.sheet import Question
sheet = Desk(Path(sys.argv[1]), None, {}).sheet("best")
views.answer_view(sheet, Question(), sheet.answer(Question(), 10), 1)
views.changed_lines(sheet, Question({0: "1.25x"}))
print(sorted({"torch", "transformers", "safetensors"} & {*sys.modules}))
"""
    command = [sys.executable, "-c", code, str(write_program(tmp_path, VARIED))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
