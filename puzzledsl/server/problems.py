"""Diagnostics of a text in the editor's form, their explanations, and the code actions that fix them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Diagnostic, Fix, Span
from puzzledsl.base.explanations import Explanation
from puzzledsl.base.fixes import compatible, safe_fixes
from puzzledsl.base.resources import resource
from puzzledsl.checker.diagnostics.lints import UnusedImport, UnusedName
from puzzledsl.checker.names.names import key_of
from puzzledsl.server.document import Document, files_of
from puzzledsl.server.features.navigation import path_of_use
from puzzledsl.server.positions import Lines, covers
from puzzledsl.syntax import tree

SOURCE = "pzl"
EXPLAIN = "pzl.explain"
"""The command that opens the reference at a given code."""
_UNUSED = UnusedName, UnusedImport
"""Diagnostics that an editor shows as faded."""
_SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}


def problems(document: Document) -> list[types.Diagnostic]:
    """Return the diagnostics of a text; those of files it uses are shown at its `use` of them."""
    checked = document.inspected[0]
    own = [_problem(document, d) for d in checked.diagnostics if is_own(document, d)]
    return own + list(_in_used_files(document))


def is_own(document: Document, diagnostic: Diagnostic) -> bool:
    """Return True for a mistake in the text itself, or for one without a span."""
    return diagnostic.span is None or diagnostic.span.file == str(document.path)


def _problem(document: Document, diagnostic: Diagnostic) -> types.Diagnostic:
    span = diagnostic.span or Span(str(document.path), 1, 1, 1, 1)
    return types.Diagnostic(
        document.lines.range(span),
        message_of(diagnostic),
        severity=_SEVERITIES[diagnostic.severity],
        code=diagnostic.code,
        code_description=_link(diagnostic.code),
        source=SOURCE,
        tags=[types.DiagnosticTag.Unnecessary] if isinstance(diagnostic, _UNUSED) else None,
        related_information=list(_related(document, diagnostic)) or None,
    )


def message_of(diagnostic: Diagnostic) -> str:
    """Return the message, label, notes and help of a diagnostic, one per line."""
    head = diagnostic.message + (f": {diagnostic.label}" if diagnostic.label else "")
    notes = [f"note: {note}" for note in diagnostic.notes]
    return "\n".join([head, *notes, *([f"help: {diagnostic.help}"] if diagnostic.help else [])])


def _related(document: Document, diagnostic: Diagnostic) -> Iterator[types.DiagnosticRelatedInformation]:
    for label in diagnostic.secondary:
        location = place(document, label.span)
        if location is not None:
            yield types.DiagnosticRelatedInformation(location, label.text or "here")


def place(document: Document, span: Span) -> types.Location | None:
    """Return the place of a span in this text or in a file it uses; None if no file contains it."""
    if span.file == str(document.path):
        return types.Location(document.uri, document.lines.range(span))
    ctx = document.inspected[1]
    file = ctx.file_named(span.file) if ctx else None
    if file is None or not file.path.is_file():
        return None
    lines = Lines.of(file.text, document.project.encoding)
    return types.Location(document.project.uri_of(file.path), lines.range(span))


def _in_used_files(document: Document) -> Iterator[types.Diagnostic]:
    """Yield one problem for each `use` of a file with mistakes, in it or in files it uses, with their places."""
    checked, ctx = document.inspected
    elsewhere = [d for d in checked.diagnostics if d.span and not is_own(document, d)]
    if ctx is None:
        return
    files = {f.key: f for f in ctx.loader.files.values()}
    told: set[str] = set()
    for use in (i for i in document.parsed[0].items if isinstance(i, tree.Use)):
        path = path_of_use(document, use)
        file = files.get(key_of(path)) if path is not None else None
        reached = files_of(file).keys() - told if file is not None else set()
        here = [d for d in elsewhere if d.span and d.span.file in reached]
        told |= reached
        if here:
            yield _of_use(document, use, here)


def _of_use(document: Document, use: tree.Use, found: list[Diagnostic]) -> types.Diagnostic:
    related = []
    for diagnostic in found:
        location = place(document, diagnostic.span) if diagnostic.span else None
        if location is not None:
            related.append(types.DiagnosticRelatedInformation(location, diagnostic.message))
    errors = any(d.severity == "error" for d in found)
    many = f"{len(found)} mistakes" if len(found) > 1 else "a mistake"
    return types.Diagnostic(
        document.lines.range(use.path.span),
        f"`{use.path.value}` has {many}: {found[0].message}",
        severity=_SEVERITIES["error" if errors else "warning"],
        source=SOURCE,
        code=found[0].code,
        code_description=_link(found[0].code),
        related_information=related or None,
    )


# ---------------------------------------------------------------- what mends them


def actions(document: Document, wanted: types.Range, only: list[str] | None = None) -> list[types.CodeAction]:
    """Return code actions for a range: fixes of its problems, their explanations, and one that applies every safe fix."""
    found: list[types.CodeAction] = []
    codes: dict[str, None] = {}
    own = [d for d in document.inspected[0].diagnostics if is_own(document, d)]
    if _may(only, types.CodeActionKind.QuickFix):
        for diagnostic in own:
            problem = _problem(document, diagnostic)
            if _touch(problem.range, wanted):
                found += [_action(document, fix, problem) for fix in _here(document, diagnostic)]
                codes.setdefault(diagnostic.code)
        found += [_explain_action(code) for code in codes if place_of(code) is not None]
    safe = compatible(fix for _, fix in safe_fixes(own, str(document.path)))
    if len(safe) > 1 and _may(only, types.CodeActionKind.SourceFixAll):
        title = f"make all {len(safe)} safe fixes"
        kind = types.CodeActionKind.SourceFixAll
        found.append(types.CodeAction(title, kind, edit=_edit(document, safe)))
    return found


def _here(document: Document, diagnostic: Diagnostic) -> list[Fix]:
    """Return the fixes of a diagnostic that edit only this text."""
    return [f for f in diagnostic.fixes if all(e.span.file == str(document.path) for e in f.edits)]


def _may(only: list[str] | None, kind: types.CodeActionKind) -> bool:
    """Return True if `kind` is among the requested kinds of code actions, or if all were requested."""
    return only is None or any(kind.value == o or kind.value.startswith(f"{o}.") for o in only)


def _touch(one: types.Range, other: types.Range) -> bool:
    def at(position: types.Position) -> tuple[int, int]:
        return position.line, position.character

    return at(one.start) <= at(other.end) and at(other.start) <= at(one.end)


def _action(document: Document, fix: Fix, problem: types.Diagnostic) -> types.CodeAction:
    return types.CodeAction(
        fix.title,
        types.CodeActionKind.QuickFix,
        diagnostics=[problem],
        is_preferred=fix.safe or None,
        edit=_edit(document, [fix]),
    )


def _edit(document: Document, fixes: list[Fix]) -> types.WorkspaceEdit:
    edits = [types.TextEdit(document.lines.range(e.span), e.text) for fix in fixes for e in fix.edits]
    versioned = types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version)
    return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(versioned, list(edits))])


def _explain_action(code: str) -> types.CodeAction:
    command = types.Command(f"explain {code}", EXPLAIN, arguments=[code])
    return types.CodeAction(command.title, types.CodeActionKind.QuickFix, command=command)


# ---------------------------------------------------------------- explanations


@cache
def reference() -> tuple[Path, dict[str, int]] | None:
    """Return the reference of diagnostics and the line (from 0) of each code; None if it is not installed."""
    try:
        path = resource("docs", "errors.md")
    except FileNotFoundError:
        return None
    heads = (re.match(r"### (\w+):", line) for line in path.read_text("utf-8").split("\n"))
    return path, {head.group(1): number for number, head in enumerate(heads) if head is not None}


def place_of(code: str) -> tuple[Path, int] | None:
    """Return the file and the line (from 0) that explain a code; None if the reference lacks it."""
    known = reference()
    return (known[0], known[1][code]) if known is not None and code in known[1] else None


def _link(code: str) -> types.CodeDescription | None:
    found = place_of(code)
    return None if found is None else types.CodeDescription(f"{found[0].as_uri()}#L{found[1] + 1}")


def explanations_at(document: Document, line: int, column: int) -> list[str]:
    """Return the explanations, in Markdown, of the diagnostics at a position of a text."""
    found: dict[str, type[Diagnostic]] = {}
    for diagnostic in document.inspected[0].diagnostics:
        span = diagnostic.span
        if span is not None and is_own(document, diagnostic) and covers(span, line, column):
            found[diagnostic.code] = type(diagnostic)
    return [Explanation.of(kind).as_hover() for kind in found.values()]
