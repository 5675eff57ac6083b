"""The language server: protocol over stdio, open texts, and one table of the requests with the functions that answer them.

Everything runs in one thread. A text is checked after a short pause in typing. Where checks take long, the pause lasts as
long as the previous one took, so that typing does not wait for checks.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from lsprotocol import types
from pygls import uris
from pygls.lsp.server import LanguageServer

from puzzledsl.base.version import __version__
from puzzledsl.server import navigation, problems
from puzzledsl.server.completion import complete
from puzzledsl.server.document import Document, Encoding, Project
from puzzledsl.server.navigation import hover

QUIET_S = 0.02  # Seconds without a change before a text is checked.
LONG_S = 0.1  # Seconds that a check may take without making the pause before the next one longer.


class PzlServer(LanguageServer):
    """A language server: `project` has the open texts, `due` the scheduled checks by URI, `took_s` the last check's duration."""

    def __init__(self) -> None:
        super().__init__("pzl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self.project = Project()
        self.due: dict[str, asyncio.TimerHandle] = {}
        self.took_s: float = 0.0
        self.ended: list[str] = []  # `shutdown`, then `exit`

    def document(self, params: Any) -> Document:
        """Return the document that a request names: the open text, else the file on disk. Raises Refused if there is neither."""
        uri = params.text_document.uri
        found = self.project.documents.get(uri)
        path = uris.to_fs_path(uri)
        if found is None and path:
            found = self.project.document(Path(path))
        if found is None:
            raise navigation.Refused(f"{uri} is not open and cannot be read")
        return found

    def take(self, uri: str, source: str, version: int | None) -> None:
        """Store an open text; schedule its check (at once if it is new), and those of open texts that use it."""
        first = uri not in self.project.documents
        document = self.project.open(uri, source, version)
        self.check_soon(uri, 0.0 if first else None)
        for other in self.project.documents.values():
            if other is not document and other.uses(document.key):
                self.check_soon(other.uri)

    def changed(self, about: Any, *texts: str) -> None:
        """Store the newest of the texts that an editor sends (each is the whole document); `about`: its URI and version."""
        for text in texts[-1:]:
            self.take(about.uri, text, about.version)

    def closed(self, params: types.DidCloseTextDocumentParams) -> None:
        """Forget a closed text, clear its diagnostics, and check the others: its file on disk counts again."""
        uri = params.text_document.uri
        self.project.close(uri)
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))
        self.check_all()

    def check_all(self) -> None:
        """Read again the files that open texts use, and schedule the check of every open text."""
        self.project.forget()
        for uri in self.project.documents:
            self.check_soon(uri)

    def check_soon(self, uri: str, delay_s: float | None = None) -> None:
        """(Re)schedule a check in `delay_s`; default: QUIET_S, or the last check's duration if above LONG_S."""
        waiting = self.due.pop(uri, None)
        if waiting is not None:
            waiting.cancel()
        if delay_s is None:
            delay_s = self.took_s if self.took_s > LONG_S else QUIET_S
        self.due[uri] = asyncio.get_running_loop().call_later(delay_s, self.check_now, uri)

    def check_now(self, uri: str) -> None:
        """Check an open text and publish its diagnostics for the checked version. An internal error is only logged."""
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

    def initialize(self, params: types.InitializeParams) -> None:
        """Store the editor's folders, and the first encoding it offers that we have (UTF-16 if none), as pygls chooses it."""
        general = params.capabilities.general
        offered = [str(getattr(e, "value", e)) for e in (general and general.position_encodings) or ()]
        encoding = next((e for e in offered if e in ("utf-8", "utf-16", "utf-32")), "utf-16")
        self.project.encoding = cast(Encoding, encoding)
        roots = [f.uri for f in params.workspace_folders or ()] or [params.root_uri or ""]
        self.project.folders = [Path(path) for root in roots if root and (path := uris.to_fs_path(root))]

    def watch(self) -> None:
        """Ask the editor to report changes of `.pzl` files on disk, if it can."""
        known = self.client_capabilities.workspace
        watched = known.did_change_watched_files if known else None
        if watched and watched.dynamic_registration:
            options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher("**/*.pzl")])
            method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
            wanted = [types.Registration("pzl-files", method, options)]
            self.client_register_capability(types.RegistrationParams(wanted))


Answer = Callable[[PzlServer, Any], object]


def _place(server: PzlServer, params: Any) -> tuple[Document, int, int]:
    """Return the document of a request, and its position as a 1-based line and column."""
    document = server.document(params)
    return document, *document.lines.place(params.position)


def _of(answer: Callable[[Document], object]) -> Answer:
    """Turn a function of a document into the answer to a request about a whole text."""
    return lambda server, params: answer(server.document(params))


def _at(answer: Callable[[Document, int, int], object]) -> Answer:
    """Turn a function of a document, line and column into the answer to a request about a position."""
    return lambda server, params: answer(*_place(server, params))


def _actions(server: PzlServer, params: types.CodeActionParams) -> list[types.CodeAction]:
    only = params.context.only
    wanted = None if only is None else [str(getattr(o, "value", o)) for o in only]
    return problems.actions(server.document(params), params.range, wanted)


_ANSWERS: Mapping[str, Answer] = {
    types.INITIALIZE: PzlServer.initialize,
    types.INITIALIZED: lambda server, _: server.watch(),
    types.SHUTDOWN: lambda server, _: server.ended.append(types.SHUTDOWN),
    types.EXIT: lambda server, _: server.ended.append(types.EXIT),
    types.TEXT_DOCUMENT_DID_OPEN: lambda server, p: server.changed(p.text_document, p.text_document.text),
    types.TEXT_DOCUMENT_DID_CHANGE: lambda s, p: s.changed(
        p.text_document, *(c.text for c in p.content_changes)
    ),
    types.TEXT_DOCUMENT_DID_SAVE: lambda server, _: server.check_all(),
    types.TEXT_DOCUMENT_DID_CLOSE: PzlServer.closed,
    types.WORKSPACE_DID_CHANGE_WATCHED_FILES: lambda server, _: server.check_all(),
    types.TEXT_DOCUMENT_HOVER: _at(hover),
    types.TEXT_DOCUMENT_DEFINITION: _at(navigation.definition),
    types.TEXT_DOCUMENT_COMPLETION: _at(lambda *at: types.CompletionList(False, complete(*at))),
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: _of(navigation.outline),
    types.TEXT_DOCUMENT_FORMATTING: _of(problems.formatting),
    types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL: _of(problems.semantic_tokens),
    types.TEXT_DOCUMENT_REFERENCES: lambda s, p: navigation.references(
        *_place(s, p), p.context.include_declaration
    ),
    types.TEXT_DOCUMENT_CODE_ACTION: _actions,
    types.TEXT_DOCUMENT_PREPARE_RENAME: _at(navigation.prepare),
    types.TEXT_DOCUMENT_RENAME: lambda s, p: navigation.rename(*_place(s, p), p.new_name),
}
"""Method of the protocol (requests and notifications) -> the function that answers it."""
_Kinds = types.CodeActionKind
_OFFERED: Mapping[str, object] = {
    types.TEXT_DOCUMENT_COMPLETION: types.CompletionOptions(trigger_characters=[".", '"', "/", "(", "="]),
    types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL: types.SemanticTokensLegend(problems.TYPES, []),
    types.TEXT_DOCUMENT_CODE_ACTION: types.CodeActionOptions([_Kinds.QuickFix, _Kinds.SourceFixAll]),
    types.TEXT_DOCUMENT_RENAME: types.RenameOptions(prepare_provider=True),
}
"""Method -> options of the feature, which the server announces."""


def create_server() -> PzlServer:
    """Return a server with every feature; `start_io()` runs it."""
    server = PzlServer()
    for method, answer in _ANSWERS.items():
        server.feature(method, _OFFERED.get(method))(partial(answer, server))
    return server


def run() -> int:
    """Serve one editor over copies of stdin and stdout; return the exit code: 1 after `exit` without `shutdown`, else 0."""
    server = create_server()
    with os.fdopen(os.dup(0), "rb") as source, os.fdopen(os.dup(1), "wb") as target:
        server.start_io(source, target)
    return int(server.ended[:1] == [types.EXIT])
