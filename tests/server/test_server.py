"""The server as an editor runs it: `pzl lsp`, over stdin and stdout."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio
import pytest_lsp
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import default_converter
from pytest_lsp import ClientServerConfig, LanguageClient
from pytest_lsp.client import DEFAULT_CLIENT_FEATURES, register_lsp_features

from puzzledsl.base.resources import resource
from puzzledsl.server import app
from puzzledsl.server.app import create_server
from puzzledsl.syntax.format import format_source
from tests.server.test_features import edited, text_edits
from tests.server.texts import NEMOTRON, PROGRAM, ROOT, place_of

COMMAND = [sys.executable, "-m", "puzzledsl.cli.main", "lsp"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def make_client() -> LanguageClient:
    """A client that keeps every set of problems it is told, so that none is missed while something else is awaited."""
    client = LanguageClient(converter_factory=default_converter)
    told: defaultdict[str, asyncio.Queue[types.PublishDiagnosticsParams]] = defaultdict(asyncio.Queue)

    def problems(client: LanguageClient, params: types.PublishDiagnosticsParams) -> None:
        told[params.uri].put_nowait(params)

    def accept(client: LanguageClient, params: types.RegistrationParams) -> None:
        assert [r.method for r in params.registrations] == [types.WORKSPACE_DID_CHANGE_WATCHED_FILES]

    own = {
        types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS: problems,
        types.CLIENT_REGISTER_CAPABILITY: accept,
    }
    register_lsp_features(client, {**DEFAULT_CLIENT_FEATURES, **own})
    client.told = told  # type: ignore[attr-defined]
    return client


CONFIG = ClientServerConfig(server_command=COMMAND, server_env=ENVIRONMENT, client_factory=make_client)
LIB = "let few = 3\n"
USES = 'use "lib.pzl" (few)\nlet more = few + 1\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("workspace")
    (found / "lib.pzl").write_text(LIB, "utf-8")
    (found / "uses.pzl").write_text(USES, "utf-8")
    return found


@pytest_lsp.fixture(config=CONFIG, scope="module")
async def client(lsp_client: LanguageClient, folder: Path) -> AsyncIterator[None]:
    folders = [types.WorkspaceFolder(folder.as_uri(), "workspace")]
    capabilities = pytest_lsp.client_capabilities("visual-studio-code")
    await lsp_client.initialize_session(
        types.InitializeParams(capabilities=capabilities, workspace_folders=folders)
    )
    yield
    await lsp_client.shutdown_session()


class Editor:
    """One text open in the client."""

    def __init__(self, client: LanguageClient, path: Path) -> None:
        self.client, self.uri, self.version, self.text = client, path.as_uri(), 0, ""

    async def open(self, text: str) -> list[types.Diagnostic]:
        """Open the text; the problems of that version."""
        self.version, self.text = self.version + 1, text
        opened = types.TextDocumentItem(self.uri, "pzl", self.version, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(opened))
        return await self.problems()

    async def change(self, text: str) -> list[types.Diagnostic]:
        """Type until the text is this; the problems of that version."""
        self.send(text)
        return await self.problems()

    def send(self, text: str) -> None:
        self.version, self.text = self.version + 1, text
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                types.VersionedTextDocumentIdentifier(self.version, self.uri),
                [types.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    async def problems(self) -> list[types.Diagnostic]:
        """The diagnostics that the server publishes for the newest text; those of older texts are skipped."""
        while True:
            told = await self.told()
            if told.version == self.version:
                return list(told.diagnostics)

    async def told(self) -> types.PublishDiagnosticsParams:
        """The next set of problems that is published for this text."""
        told: types.PublishDiagnosticsParams = await self.client.told[self.uri].get()  # type: ignore[attr-defined]
        return told

    def at(self, word: str, offset: int = 0) -> dict[str, object]:
        line, column = place_of(self.text, word)
        position = types.Position(line - 1, column - 1 + offset)
        return {"text_document": types.TextDocumentIdentifier(self.uri), "position": position}

    def close(self) -> None:
        self.client.text_document_did_close(
            types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(self.uri))
        )


@pytest_asyncio.fixture(loop_scope="module")
async def editor(
    client: LanguageClient, folder: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Editor]:
    found = Editor(client, folder / f"{request.node.name}.pzl")
    yield found
    found.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_mistake_is_seen_and_fixed(editor: Editor) -> None:
    assert await editor.open(PROGRAM) == []
    (problem,) = await editor.change(PROGRAM.replace("minimize kl", "minimise kl"))
    assert "minimise" in problem.message
    assert problem.code
    line, column = place_of(editor.text, "minimise")
    assert problem.range.start == types.Position(line - 1, column - 1)
    offered = await editor.client.text_document_code_action_async(
        types.CodeActionParams(
            types.TextDocumentIdentifier(editor.uri), problem.range, types.CodeActionContext([problem])
        )
    )
    assert offered
    (fix,) = offered
    assert isinstance(fix, types.CodeAction)
    link = problem.code_description
    assert link is not None and Path(link.href.partition("#")[0]).name == "errors.md"
    assert await editor.change(edited(editor.text, text_edits(fix.edit))) == []
    assert editor.text == PROGRAM


async def test_only_the_last_of_many_changes_is_told(editor: Editor) -> None:
    await editor.open("")
    for end in range(1, len(PROGRAM) - 1, 20):
        editor.send(PROGRAM[:end])
    assert await editor.change(PROGRAM) == []


async def test_columns_are_utf_16(editor: Editor) -> None:
    (problem,) = await editor.open('let a = ["😀", nobody]\n')
    assert (problem.range.start.character, problem.range.end.character) == (15, 21)
    found = await editor.client.text_document_hover_async(
        types.HoverParams(types.TextDocumentIdentifier(editor.uri), types.Position(0, 4))
    )
    assert found is not None


async def test_completion(editor: Editor) -> None:
    await editor.open(PROGRAM + "search n of w {\n  require chat.\n}\n")
    found = await editor.client.text_document_completion_async(
        types.CompletionParams(**editor.at("require chat.\n", len("require chat.")))  # type: ignore[arg-type]
    )
    assert isinstance(found, types.CompletionList)
    assert {"memory", "throughput", "latency"} <= {i.label for i in found.items}


async def test_hover(editor: Editor) -> None:
    await editor.open(NEMOTRON.read_text("utf-8"))
    found = await editor.client.text_document_hover_async(types.HoverParams(**editor.at("mlp(width")))  # type: ignore[arg-type]
    assert found is not None
    assert isinstance(found.contents, types.MarkupContent)
    assert "`width`" in found.contents.value


async def test_a_definition_in_a_shipped_file(editor: Editor) -> None:
    await editor.open(PROGRAM)
    found = await editor.client.text_document_definition_async(
        types.DefinitionParams(**editor.at("h100_sxm(memory"))  # type: ignore[arg-type]
    )
    assert isinstance(found, types.Location)
    assert found.uri == resource("spaces", "std/hardware.pzl").as_uri()


async def test_rename_across_two_files(client: LanguageClient, folder: Path) -> None:
    lib, uses = Editor(client, folder / "lib.pzl"), Editor(client, folder / "uses.pzl")
    assert await lib.open(LIB) == []
    assert await uses.open(USES) == []
    prepared = await client.text_document_prepare_rename_async(types.PrepareRenameParams(**lib.at("few")))  # type: ignore[arg-type]
    assert isinstance(prepared, types.PrepareRenamePlaceholder)
    assert prepared.placeholder == "few"
    edit = await client.text_document_rename_async(types.RenameParams(new_name="several", **lib.at("few")))  # type: ignore[arg-type]
    assert edit is not None
    changes = {c.text_document.uri: list(c.edits) for c in edit.document_changes or ()}  # type: ignore[union-attr]
    assert set(changes) == {lib.uri, uses.uri}
    assert edited(USES, changes[uses.uri]) == USES.replace("few", "several")  # type: ignore[arg-type]
    lib.send(edited(LIB, changes[lib.uri]))  # type: ignore[arg-type]
    (problem,) = await uses.problems()  # the file it uses has changed under it
    assert "few" in problem.message
    assert await uses.change(edited(USES, changes[uses.uri])) == []  # type: ignore[arg-type]
    lib.close()
    uses.close()


async def test_a_folder_with_blanks_and_signs(client: LanguageClient, folder: Path) -> None:
    """Texts go by the URIs the editor opened them with, whatever it escapes."""
    inner = folder / "a folder, mine #1 é"
    inner.mkdir()
    (inner / "lib.pzl").write_text(LIB, "utf-8")
    editor = Editor(client, inner / "uses.pzl")
    assert await editor.open(USES) == []
    editor_edit = await client.text_document_rename_async(
        types.RenameParams(new_name="several", **editor.at("few"))
    )
    assert editor_edit is not None
    changed = {c.text_document.uri: list(c.edits) for c in editor_edit.document_changes or ()}
    assert edited(USES, changed[editor.uri]) == USES.replace("few", "several")
    (lib,) = changed.keys() - {editor.uri}
    assert unquote(lib).endswith("/a folder, mine #1 é/lib.pzl")
    editor.close()


async def test_a_shipped_name_is_not_renamed(editor: Editor) -> None:
    await editor.open(PROGRAM)
    with pytest.raises(JsonRpcException, match="comes with pzl"):
        await editor.client.text_document_prepare_rename_async(
            types.PrepareRenameParams(**editor.at("h100_sxm"))  # type: ignore[arg-type]
        )


async def test_formatting(editor: Editor) -> None:
    text = PROGRAM.replace(" = ", "  =   ")
    await editor.open(text)
    edits = await editor.client.text_document_formatting_async(
        types.DocumentFormattingParams(
            types.TextDocumentIdentifier(editor.uri), types.FormattingOptions(tab_size=2, insert_spaces=True)
        )
    )
    assert edits
    assert edited(text, list(edits)) == format_source(text) != text


async def test_outline_and_colours(editor: Editor) -> None:
    await editor.open(PROGRAM)
    document = types.TextDocumentIdentifier(editor.uri)
    symbols = await editor.client.text_document_document_symbol_async(types.DocumentSymbolParams(document))
    assert "cpsat" in [s.name for s in symbols or ()]
    colours = await editor.client.text_document_semantic_tokens_full_async(
        types.SemanticTokensParams(document)
    )
    assert colours is not None
    assert len(colours.data) % 5 == 0
    assert colours.data


async def test_a_closed_text_has_no_problems(client: LanguageClient, folder: Path) -> None:
    editor = Editor(client, folder / "closing.pzl")
    assert await editor.open("let a = nobody\n")
    editor.close()
    assert list((await editor.told()).diagnostics) == []


async def test_where_a_name_is_used(editor: Editor) -> None:
    await editor.open(PROGRAM)
    both = types.ReferenceContext(include_declaration=True)
    found = await editor.client.text_document_references_async(
        types.ReferenceParams(context=both, **editor.at("few = 3"))  # type: ignore[arg-type]
    )
    lines = [place_of(PROGRAM, word)[0] - 1 for word in ("few = 3", "<= few")]
    assert [location.range.start.line for location in found or ()] == lines


async def test_a_used_file_that_changes_on_disk_is_read_again(client: LanguageClient, folder: Path) -> None:
    (folder / "own.pzl").write_text(LIB, "utf-8")
    editor = Editor(client, folder / "reads.pzl")
    assert await editor.open(USES.replace("lib", "own")) == []
    (folder / "own.pzl").write_text(LIB.replace("few", "many"), "utf-8")
    client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([]))
    assert [problem.code for problem in await editor.problems()] == ["E0213"]
    (folder / "own.pzl").write_text(LIB, "utf-8")
    saved = types.DidSaveTextDocumentParams(types.TextDocumentIdentifier((folder / "own.pzl").as_uri()))
    client.text_document_did_save(saved)
    assert await editor.problems() == []
    editor.close()


async def test_what_is_asked_of_nothing_is_refused(editor: Editor) -> None:
    nowhere = types.TextDocumentIdentifier("untitled:nowhere")
    with pytest.raises(JsonRpcException, match="untitled:nowhere is not open and cannot be read"):
        await editor.client.text_document_document_symbol_async(types.DocumentSymbolParams(nowhere))


async def test_a_fault_of_ours_is_logged_and_the_session_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, logged = create_server(), []
    monkeypatch.setattr(server, "window_log_message", logged.append)
    monkeypatch.setattr(app.problems, "problems", lambda document: 1 // 0)
    document = server.project.open((tmp_path / "a.pzl").as_uri(), "let a = 1\n", 1)
    server.check_now(document.uri)
    server.check_now("file:///closed/meanwhile.pzl")
    assert [message.message for message in logged] == [
        "ZeroDivisionError('integer division or modulo by zero')"
    ]
