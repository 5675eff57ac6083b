"""The language server: protocol over stdio, open texts, and dispatch to the modules that answer requests.

Everything runs in one thread. A text is checked after a short pause in typing. Where checks take long, the pause lasts as
long as the previous one took, so that typing does not wait for checks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast

from lsprotocol import types
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from puzzledsl.base.version import __version__
from puzzledsl.server import problems
from puzzledsl.server.document import Document, Project
from puzzledsl.server.features import navigation, renaming, semantic, symbols
from puzzledsl.server.features.completion import complete, signature
from puzzledsl.server.features.costs import inlay_hints
from puzzledsl.server.features.folding import folding
from puzzledsl.server.features.formatting import formatting
from puzzledsl.server.features.hover import hover
from puzzledsl.server.positions import Encoding

QUIET_S = 0.02
"""Seconds without a change before a text is checked."""
LONG_S = 0.1
"""Seconds that a check may take without making the pause before the next one longer."""
REQUEST_FAILED = -32803

T = TypeVar("T")


class OfText(Protocol):
    """A request about a text."""

    text_document: types.TextDocumentIdentifier


class Positioned(OfText, Protocol):
    """A request about a position in a text."""

    position: types.Position


class PzlServer(LanguageServer):
    """A language server with its open texts and scheduled checks."""

    def __init__(self) -> None:
        super().__init__("pzl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.project = Project()
        self.due: dict[str, asyncio.TimerHandle] = {}
        self.took_s: float = 0.0
        self.was_shut_down = False
        self.exited = False

    # ------------------------------------------------------------ texts

    def document(self, uri: str) -> Document:
        """Return the open text of a URI, or the file's. Raises JsonRpcException if there is none."""
        found = self.project.documents.get(uri)
        path = uris.to_fs_path(uri)
        if found is None and path:
            found = self.project.document(Path(path))
        if found is None:
            raise JsonRpcException(f"{uri} is not open and cannot be read", REQUEST_FAILED)
        return found

    def take(self, uri: str, source: str, version: int | None) -> None:
        """Store a text and schedule the checks of the texts that it can affect."""
        first = uri not in self.project.documents
        document = self.project.open(uri, source, version)
        self.check_soon(uri, 0.0 if first else None)
        for other in self.project.documents.values():
            if other is not document and other.uses(document.key):
                self.check_soon(other.uri)

    def check_all(self) -> None:
        """Read again the files that open texts use, and schedule the check of every open text."""
        self.project.forget()
        for uri in self.project.documents:
            self.check_soon(uri)

    def check_soon(self, uri: str, delay_s: float | None = None) -> None:
        """Schedule a check after `delay_s` without a change; default: QUIET_S, or the time of the last check if that was long."""
        waiting = self.due.pop(uri, None)
        if waiting is not None:
            waiting.cancel()
        if delay_s is None:
            delay_s = self.took_s if self.took_s > LONG_S else QUIET_S
        self.due[uri] = asyncio.get_running_loop().call_later(delay_s, self.check_now, uri)

    def check_now(self, uri: str) -> None:
        """Check a text and publish its diagnostics for the checked version."""
        self.due.pop(uri, None)
        document = self.project.documents.get(uri)
        if document is None:
            return
        began = time.monotonic()
        try:
            found = problems.problems(document)
        except Exception as error:  # a fault of ours must not end the session
            self.window_log_message(types.LogMessageParams(types.MessageType.Error, repr(error)))
            return
        self.took_s = time.monotonic() - began
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, document.version))


def create_server() -> PzlServer:
    """Return a server with every feature; `start_io()` runs it."""
    server = PzlServer()
    _register_texts(server)
    _register_reading(server)
    _register_changing(server)
    return server


def run() -> int:
    """Serve one editor over stdin and stdout until it disconnects; return the exit code that the protocol asks for.

    It is 1 after `exit` without `shutdown`, and 0 otherwise.
    """
    server = create_server()
    with _own_streams() as (source, target):
        server.start_io(source, target)
    return int(server.exited and not server.was_shut_down)


@contextmanager
def _own_streams() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield copies of stdin and stdout for the protocol, which closes its streams at the end."""
    with os.fdopen(os.dup(0), "rb") as source, os.fdopen(os.dup(1), "wb") as target:
        yield source, target


def _at(
    server: PzlServer,
    params: Positioned,
    ask: Callable[[Document, int, int], T],
) -> T:
    document = server.document(params.text_document.uri)
    return ask(document, *document.lines.place(params.position))


# ---------------------------------------------------------------- texts


def _register_texts(server: PzlServer) -> None:
    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        server.project.encoding = cast(Encoding, str(_encoding(params)))
        folders = [uris.to_fs_path(f.uri) for f in params.workspace_folders or ()]
        if not folders and params.root_uri:
            folders = [uris.to_fs_path(params.root_uri)]
        server.project.folders = [Path(f) for f in folders if f]

    @server.feature(types.INITIALIZED)
    def initialized(params: types.InitializedParams) -> None:
        watched = server.client_capabilities.workspace
        watched_files = watched.did_change_watched_files if watched else None
        if watched_files and watched_files.dynamic_registration:
            watcher = types.FileSystemWatcher("**/*.pzl")
            options = types.DidChangeWatchedFilesRegistrationOptions([watcher])
            method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
            registration = types.Registration("pzl-files", method, options)
            server.client_register_capability(types.RegistrationParams([registration]))

    @server.feature(types.SHUTDOWN)
    def shutdown(params: None) -> None:
        server.was_shut_down = True

    @server.feature(types.EXIT)
    def exit(params: None) -> None:
        server.exited = True

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def did_open(params: types.DidOpenTextDocumentParams) -> None:
        opened = params.text_document
        server.take(opened.uri, opened.text, opened.version)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def did_change(params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        for change in params.content_changes:
            server.take(uri, change.text, params.text_document.version)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        server.check_all()

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def did_close(params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        server.project.close(uri)
        server.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
        server.check_all()

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def watched(params: types.DidChangeWatchedFilesParams) -> None:
        server.check_all()


def _encoding(params: types.InitializeParams) -> str:
    """Return the editor's most preferred encoding among the supported ones, which is also pygls's choice."""
    general = params.capabilities.general
    offered = [str(getattr(e, "value", e)) for e in (general.position_encodings if general else None) or ()]
    return next((e for e in offered if e in ("utf-8", "utf-16", "utf-32")), "utf-16")


# ---------------------------------------------------------------- asking

_AT_A_POSITION: tuple[tuple[str, Callable[[Document, int, int], object], object], ...] = (
    (types.TEXT_DOCUMENT_HOVER, hover, None),
    (types.TEXT_DOCUMENT_DEFINITION, navigation.definition, None),
    (types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT, navigation.highlights, None),
    (
        types.TEXT_DOCUMENT_SIGNATURE_HELP,
        signature,
        types.SignatureHelpOptions(trigger_characters=["(", ",", ":"]),
    ),
    (
        types.TEXT_DOCUMENT_COMPLETION,
        lambda *at: types.CompletionList(is_incomplete=False, items=complete(*at)),
        types.CompletionOptions(trigger_characters=[".", '"', "/", "(", "="]),
    ),
)
"""Requests about a position, their answers and what they offer."""
_OF_A_TEXT: tuple[tuple[str, Callable[[Document], object], object], ...] = (
    (types.TEXT_DOCUMENT_DOCUMENT_LINK, navigation.links, None),
    (types.TEXT_DOCUMENT_DOCUMENT_SYMBOL, symbols.outline, None),
    (types.TEXT_DOCUMENT_FOLDING_RANGE, folding, None),
    (types.TEXT_DOCUMENT_FORMATTING, formatting, None),
    (
        types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL,
        semantic.semantic_tokens,
        types.SemanticTokensLegend(semantic.TYPES, semantic.MODIFIERS),
    ),
)
"""Requests about a whole text."""


def _register_reading(server: PzlServer) -> None:
    def at_a_position(answer: Callable[[Document, int, int], T]) -> Callable[[Positioned], T]:
        return lambda params: _at(server, params, answer)

    def of_a_text(answer: Callable[[Document], T]) -> Callable[[OfText], T]:
        return lambda params: answer(server.document(params.text_document.uri))

    for method, about_place, offered in _AT_A_POSITION:
        server.feature(method, offered)(at_a_position(about_place))
    for method, about_text, offered in _OF_A_TEXT:
        server.feature(method, offered)(of_a_text(about_text))

    @server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
    def on_inlay_hints(params: types.InlayHintParams) -> list[types.InlayHint]:
        return inlay_hints(server.document(params.text_document.uri), params.range)

    @server.feature(types.TEXT_DOCUMENT_REFERENCES)
    def on_references(params: types.ReferenceParams) -> list[types.Location]:
        wanted = params.context.include_declaration
        return _at(server, params, lambda *at: navigation.references(*at, with_declaration=wanted))

    @server.feature(types.WORKSPACE_SYMBOL)
    def on_workspace_symbols(params: types.WorkspaceSymbolParams) -> list[types.WorkspaceSymbol]:
        return symbols.workspace_symbols(server.project.programs(), params.query)


# ---------------------------------------------------------------- changing


def _register_changing(server: PzlServer) -> None:
    @server.feature(
        types.TEXT_DOCUMENT_CODE_ACTION,
        types.CodeActionOptions([types.CodeActionKind.QuickFix, types.CodeActionKind.SourceFixAll]),
    )
    def on_actions(params: types.CodeActionParams) -> list[types.CodeAction]:
        only = params.context.only
        wanted = None if only is None else [str(getattr(o, "value", o)) for o in only]
        return problems.actions(server.document(params.text_document.uri), params.range, wanted)

    @server.command(problems.EXPLAIN)
    def on_explain(code: str) -> None:
        place = problems.place_of(code)
        if place is None:
            raise JsonRpcException(f"nothing is known of `{code}`", REQUEST_FAILED)
        start = types.Position(place[1], 0)
        server.window_show_document(
            types.ShowDocumentParams(place[0].as_uri(), take_focus=True, selection=types.Range(start, start))
        )

    @server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def on_prepare(params: types.PrepareRenameParams) -> types.PrepareRenamePlaceholder:
        return _or_refuse(lambda: _at(server, params, renaming.prepare))

    @server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def on_rename(params: types.RenameParams) -> types.WorkspaceEdit:
        new = params.new_name
        return _or_refuse(
            lambda: _at(server, params, lambda d, line, column: renaming.rename(d, line, column, new))
        )


def _or_refuse(work: Callable[[], T]) -> T:
    try:
        return work()
    except renaming.RenameRefused as refused:
        raise JsonRpcException(str(refused), REQUEST_FAILED) from refused
