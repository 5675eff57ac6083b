"""Diagnostics in the form of the editor's protocol, code actions that fix them, formatting, and colours of words."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lsprotocol import types

from puzzledsl.base.diagnostics import Diagnostic, Fix, Span, compatible, safe_fixes
from puzzledsl.base.resources import resource
from puzzledsl.checker.errors import UnusedName, UnusedUse
from puzzledsl.server.document import Document, Lines, files_of, units
from puzzledsl.syntax.format import format_source
from puzzledsl.syntax.highlight import CLASSES, classified
from puzzledsl.syntax.parse import MAX_BYTES

Related = Sequence[tuple[Span | None, str]]
_SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}


def problems(document: Document) -> list[types.Diagnostic]:
    """Return the diagnostics of a text. Mistakes in files that it uses are one diagnostic at the `use` statement."""
    checked, ctx = document.inspected
    found = [_problem(document, d) for d in checked.diagnostics if is_own(document, d)]
    told: set[str] = set()
    for use in document.used if ctx is not None else ():
        file = document.file.uses.get(use.path.value)
        reached = files_of(file).keys() - told if file is not None else set()
        told |= reached
        there = (d for d in checked.diagnostics if d.span and d.span.file in reached)
        here = [d for d in there if not is_own(document, d)]
        if not here:
            continue
        many = f"{len(here)} mistakes" if len(here) > 1 else "a mistake"
        severe = "error" if any(d.severity == "error" for d in here) else "warning"
        places = [(d.span, d.message) for d in here]
        head = f"`{use.path.value}` has {many}: {here[0].message}"
        found.append(_shown(document, here[0].code, use.path.span, head, severe, places))
    return found


def is_own(document: Document, diagnostic: Diagnostic) -> bool:
    """Return True for a mistake in the text itself, or for one without a span."""
    return diagnostic.span is None or diagnostic.span.file == str(document.path)


def _problem(document: Document, diagnostic: Diagnostic) -> types.Diagnostic:
    span = diagnostic.span or Span(str(document.path), 1, 1, 1, 1)
    labels = [(label.span, label.text or "here") for label in diagnostic.secondary]
    head = diagnostic.message + (f": {diagnostic.label}" if diagnostic.label else "")
    notes = [f"note: {note}" for note in diagnostic.notes]
    message = "\n".join([head, *notes, *([f"help: {diagnostic.help}"] if diagnostic.help else [])])
    found = _shown(document, diagnostic.code, span, message, diagnostic.severity, labels)
    unused = diagnostic.kind in (UnusedName, UnusedUse)
    found.tags = [types.DiagnosticTag.Unnecessary] if unused else None
    return found


def _shown(
    document: Document, code: str, span: Span, message: str, severity: str, related: Related
) -> types.Diagnostic:
    places = [(place(document, at), text) for at, text in related if at is not None]
    told = [types.DiagnosticRelatedInformation(at, text) for at, text in places if at is not None]
    link = place_of(code)
    return types.Diagnostic(
        document.lines.range(span),
        message,
        severity=_SEVERITIES[severity],
        code=code,
        code_description=types.CodeDescription(f"{link[0].as_uri()}#L{link[1] + 1}") if link else None,
        source="pzl",
        related_information=told or None,
    )


def place(document: Document, span: Span) -> types.Location | None:
    """Return the editor's location of a span in this text or in a file it uses; None if that file is not known."""
    if span.file == str(document.path):
        return types.Location(document.uri, document.lines.range(span))
    ctx = document.inspected[1]
    file = ctx.file_named(span.file) if ctx else None
    if file is None or not file.path.is_file():
        return None
    lines = Lines(file.text, document.project.encoding)
    return types.Location(document.project.uri_of(file.path), lines.range(span))


def actions(document: Document, wanted: types.Range, only: list[str] | None = None) -> list[types.CodeAction]:
    """Return code actions: fixes of problems in the range `wanted`, and one for several safe fixes. `only`: requested kinds."""
    kinds, file = types.CodeActionKind, str(document.path)
    found: list[types.CodeAction] = []
    own = [d for d in document.inspected[0].diagnostics if is_own(document, d)]
    for diagnostic in own if _may(only, kinds.QuickFix) else ():
        problem = _problem(document, diagnostic)
        if problem.range.start > wanted.end or wanted.start > problem.range.end:
            continue
        for fix in diagnostic.fixes:
            if all(edit.span.file == file for edit in fix.edits):
                mends: dict[str, Any] = {"diagnostics": [problem], "is_preferred": fix.safe or None}
                edit = _edit(document, [fix])
                found.append(types.CodeAction(fix.title, kinds.QuickFix, edit=edit, **mends))
    safe = compatible(fix for _, fix in safe_fixes(own, file))
    if len(safe) > 1 and _may(only, kinds.SourceFixAll):
        title = f"make all {len(safe)} safe fixes"
        found.append(types.CodeAction(title, kinds.SourceFixAll, edit=_edit(document, safe)))
    return found


def _may(only: list[str] | None, kind: types.CodeActionKind) -> bool:
    """Return True if `kind` is among the requested kinds of code actions, or if all were requested."""
    return only is None or any(kind.value == o or kind.value.startswith(f"{o}.") for o in only)


def _edit(document: Document, fixes: list[Fix]) -> types.WorkspaceEdit:
    edits = [types.TextEdit(document.lines.range(e.span), e.text) for fix in fixes for e in fix.edits]
    versioned = types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version)
    return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(versioned, list(edits))])


@cache
def place_of(code: str) -> tuple[Path, int] | None:
    """Return docs/errors.md and the line (from 0) that explains a code; None if it has none, or is not installed."""
    try:
        path = resource("docs", "errors.md")
    except FileNotFoundError:
        return None
    lines = path.read_text("utf-8").split("\n")
    return next(((path, n) for n, line in enumerate(lines) if line.startswith(f"### {code}:")), None)


def formatting(document: Document) -> list[types.TextEdit]:
    """Return the one edit that formats a text; an empty list if it has syntax errors or is formatted already."""
    new = document.text if document.parsed[1] else format_source(document.text)
    last = len(document.lines.lines)
    end = document.lines.position(last, len(document.lines.lines[-1]) + 1)
    return [] if new == document.text else [types.TextEdit(types.Range(types.Position(0, 0), end), new)]


TYPES = [*dict.fromkeys(name for name, _ in CLASSES.values() if name)]


def semantic_tokens(document: Document) -> types.SemanticTokens:
    """Return every token that has a colour, as the protocol packs them."""
    data: list[int] = []
    last_line = last_start = 0
    for token, its_class in classified(document.text) if len(document.text) <= MAX_BYTES else []:
        if not (kind := CLASSES[its_class][0]):
            continue
        start = document.lines.position(token.line, token.column)
        step = start.character - (last_start if start.line == last_line else 0)
        length = units(str(token), document.lines.encoding)
        data += [start.line - last_line, step, length, TYPES.index(kind), 0]
        last_line, last_start = start.line, start.character
    return types.SemanticTokens(data)
