"""The server as an editor runs it: `pzl lsp`, over stdin and stdout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from lsprotocol import types
from pygls.protocol import default_converter

from puzzledsl.base.resources import resource
from puzzledsl.server import app
from puzzledsl.server.app import create_server
from puzzledsl.syntax.format import format_source
from tests.server.stdio import Server
from tests.server.test_features import edited
from tests.server.texts import NEMOTRON, PROGRAM, place_of

LIB = "let few = 3\n"
USES = 'use "lib.pzl" (few)\nlet more = few + 1\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("workspace")
    (found / "lib.pzl").write_text(LIB, "utf-8")
    return found


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    started = Server()
    started.initialize(
        capabilities={"workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}}},
        workspaceFolders=[{"uri": folder.as_uri(), "name": "workspace"}],
    )
    yield started
    started.ask("shutdown")
    started.send("exit")
    assert started.end()[0] == 0


class Editor:
    """One text open in the client."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server, self.uri, self.version, self.text = server, path.as_uri(), 0, ""

    def send(self, text: str) -> None:
        self.version, self.text = self.version + 1, text
        about = {"uri": self.uri, "languageId": "pzl", "version": self.version, "text": text}
        if self.version == 1:
            self.server.send("textDocument/didOpen", {"textDocument": about})
        else:
            changes = {"textDocument": about, "contentChanges": [{"text": text}]}
            self.server.send("textDocument/didChange", changes)

    def type(self, text: str) -> list[dict[str, Any]]:
        """Type until the text is this; the problems of that version."""
        self.send(text)
        return self.problems()

    def problems(self) -> list[dict[str, Any]]:
        """The next problems that the server publishes for the newest text; those of older texts are skipped."""
        return self.server.published(self.version, self.uri)

    def ask(self, method: str, word: str = "", offset: int = 0, **more: Any) -> Any:
        """Ask about the text, or about a place in it."""
        if word:
            line, column = place_of(self.text, word)
            more["position"] = {"line": line - 1, "character": column - 1 + offset}
        return self.server.ask(f"textDocument/{method}", {"textDocument": {"uri": self.uri}, **more})

    def close(self) -> None:
        self.server.send("textDocument/didClose", {"textDocument": {"uri": self.uri}})


@pytest.fixture
def editor(server: Server, folder: Path, request: pytest.FixtureRequest) -> Iterator[Editor]:
    found = Editor(server, folder / f"{request.node.name}.pzl")
    yield found
    found.close()


def changed(text: str, edits: list[Any]) -> str:
    """A text with edits made that came over the wire."""
    return edited(text, default_converter().structure(edits, list[types.TextEdit]))


def test_a_mistake_is_seen_and_fixed(editor: Editor) -> None:
    assert editor.type(PROGRAM) == []
    (problem,) = editor.type(PROGRAM.replace("minimize kl", "minimise kl"))
    assert "minimise" in problem["message"] and problem["code"]
    line, column = place_of(editor.text, "minimise")
    assert problem["range"]["start"] == {"line": line - 1, "character": column - 1}
    link = problem["codeDescription"]["href"]
    assert Path(link.partition("#")[0]).name == "errors.md"
    (fix,) = editor.ask("codeAction", range=problem["range"], context={"diagnostics": [problem]})
    (change,) = fix["edit"]["documentChanges"]
    assert changed(editor.text, change["edits"]) == PROGRAM


def test_only_the_last_of_many_changes_is_told(editor: Editor) -> None:
    for end in range(0, len(PROGRAM) - 1, 20):
        editor.send(PROGRAM[:end])
    assert editor.type(PROGRAM) == []


def test_every_request_is_answered(editor: Editor) -> None:
    text = PROGRAM.replace(" = ", "  =   ")
    assert editor.type(text) == []
    completed = editor.ask("completion", "chat.memory", len("chat."))
    assert {"memory", "throughput", "latency"} <= {item["label"] for item in completed["items"]}
    assert "`width`" in editor.ask("hover", "mlp(width")["contents"]["value"]
    defined = editor.ask("definition", "h100_sxm(memory")
    assert defined["uri"] == resource("spaces", "std/hardware.pzl").as_uri()
    assert changed(text, editor.ask("formatting", options={"tabSize": 2, "insertSpaces": True})) == (
        format_source(text)
    )
    assert "cpsat" in [symbol["name"] for symbol in editor.ask("documentSymbol")]
    colours = editor.ask("semanticTokens/full")["data"]
    assert colours and len(colours) % 5 == 0
    used = editor.ask("references", "few  =", context={"includeDeclaration": True})
    lines = [place_of(text, word)[0] - 1 for word in ("few  =", "<= few")]
    assert [location["range"]["start"]["line"] for location in used] == lines
    with pytest.raises(RuntimeError, match="comes with pzl"):
        editor.ask("prepareRename", "h100_sxm")


@pytest.mark.parametrize("name", ["plain", "a folder, mine #1 é"])
def test_rename_across_two_files(server: Server, folder: Path, name: str) -> None:
    """Texts go by the URIs the editor opened them with, whatever it escapes."""
    (folder / name).mkdir()
    lib, uses = (Editor(server, folder / name / file) for file in ("lib.pzl", "uses.pzl"))
    assert lib.type(LIB) == uses.type(USES) == []
    assert lib.ask("prepareRename", "few")["placeholder"] == "few"
    edit = uses.ask("rename", "few", newName="several")
    changes = {change["textDocument"]["uri"]: change["edits"] for change in edit["documentChanges"]}
    assert changes.keys() == {lib.uri, uses.uri} and unquote(lib.uri).endswith(f"/{name}/lib.pzl")
    lib.send(changed(LIB, changes[lib.uri]))
    (problem,) = uses.problems()  # the file it uses has changed under it
    assert "few" in problem["message"]
    assert uses.type(changed(USES, changes[uses.uri])) == [] and uses.text == USES.replace("few", "several")
    lib.close()
    uses.close()


def test_a_closed_text_has_no_problems(server: Server, folder: Path) -> None:
    editor = Editor(server, folder / "closing.pzl")
    assert editor.type("let a = nobody\n")
    editor.close()
    assert server.published(None, editor.uri) == []


def test_a_used_file_that_changes_on_disk_is_read_again(editor: Editor, folder: Path) -> None:
    own = folder / "own.pzl"
    own.write_text(LIB, "utf-8")
    assert editor.type(USES.replace("lib", "own")) == []
    own.write_text(LIB.replace("few", "many"), "utf-8")
    editor.server.send("workspace/didChangeWatchedFiles", {"changes": []})
    assert [problem["code"] for problem in editor.problems()] == ["E0213"]
    own.write_text(LIB, "utf-8")
    editor.server.send("textDocument/didSave", {"textDocument": {"uri": own.as_uri()}})
    assert editor.problems() == []


def test_what_is_asked_of_nothing_is_refused(server: Server) -> None:
    with pytest.raises(RuntimeError, match="untitled:nowhere is not open and cannot be read"):
        server.ask("textDocument/documentSymbol", {"textDocument": {"uri": "untitled:nowhere"}})
    assert server.ask("textDocument/documentSymbol", {"textDocument": {"uri": NEMOTRON.as_uri()}})


def test_a_fault_of_ours_is_logged_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, logged = create_server(), []
    monkeypatch.setattr(server, "window_log_message", logged.append)
    monkeypatch.setattr(app.problems, "problems", lambda document: 1 // 0)
    document = server.project.open((tmp_path / "a.pzl").as_uri(), "let a = 1\n", 1)
    server.check_now(document.uri)
    server.check_now("file:///closed/meanwhile.pzl")
    [message] = logged
    assert message.message == "ZeroDivisionError('integer division or modulo by zero')"


@pytest.mark.parametrize(("asked", "code"), [("exit", 1), ("", 0)])
def test_a_session_without_shutdown_ends_as_the_protocol_says(asked: str, code: int) -> None:
    server = Server()
    server.initialize()
    if asked:
        server.send(asked)
    assert server.end() == (code, "")
