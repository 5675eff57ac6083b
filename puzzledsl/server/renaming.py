"""Rename a name in all files that use it, or refuse.

The changes are first checked in memory. If a name would change its meaning or a new diagnostic would appear, nothing
is changed.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Fix
from puzzledsl.base.fixes import apply
from puzzledsl.base.resources import folder
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.names import key_of
from puzzledsl.checker.names.occurrences import Occurrence
from puzzledsl.language.words import KEYWORDS
from puzzledsl.server.document import Document, Project
from puzzledsl.server.navigation import uses

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Changes = list[tuple[Document, list[Occurrence]]]


class RenameRefused(Exception):
    """The reason why a name cannot be renamed, as a message for the user."""


def prepare(document: Document, line: int, column: int) -> types.PrepareRenamePlaceholder:
    """Return the name at a position if it can be renamed. Raises RenameRefused."""
    occurrence, _ = _renamable(document, line, column)
    return types.PrepareRenamePlaceholder(document.lines.range(occurrence.span), occurrence.name)


def rename(document: Document, line: int, column: int, new: str) -> types.WorkspaceEdit:
    """Return the edits that change the name at a position to `new` everywhere. Raises RenameRefused."""
    occurrence, symbol = _renamable(document, line, column)
    if not _NAME.fullmatch(new):
        raise RenameRefused(f"`{new}` is no name: letters, digits and `_`, not a digit first")
    if new in KEYWORDS:
        raise RenameRefused(f"`{new}` is a word of the language")
    changes: Changes = []
    for other, found in uses(document, symbol):
        if other.parsed[0].broken:
            raise RenameRefused(
                f"`{other.path.name}` cannot be read to its end: mend its syntax first, or uses may be missed"
            )
        if found:
            changes.append((other, found))
    if new != occurrence.name:
        _try_out(document.project, changes, new)
    edits = []
    for other, found in changes:
        text = types.OptionalVersionedTextDocumentIdentifier(other.uri, other.version)
        new_names = [types.TextEdit(other.lines.range(o.span), new) for o in found]
        edits.append(types.TextDocumentEdit(text, list(new_names)))
    return types.WorkspaceEdit(document_changes=list(edits))


def _renamable(document: Document, line: int, column: int) -> tuple[Occurrence, Symbol]:
    occurrence = document.name_at(line, column)
    if occurrence is None:
        raise RenameRefused("there is no name here")
    symbol = occurrence.symbol
    if symbol is None:
        raise RenameRefused(f"nothing is called `{occurrence.name}`")
    if not isinstance(symbol, Symbol):
        raise RenameRefused(f"`{occurrence.name}` is a word of the language")
    path = symbol.file.path
    if Path(symbol.file.key).is_relative_to(key_of(folder("spaces"))):
        raise RenameRefused(f"`{symbol.name}` is declared in `{path.name}`, which comes with pzl")
    return occurrence, symbol


def _try_out(project: Project, changes: Changes, new: str) -> None:
    """Raise RenameRefused if a program would read otherwise, or be refused, with the new name."""
    trial = Project(project.encoding, project.folders)
    fixes = {other.key: [Fix.replace(o.span, new) for o in found] for other, found in changes}
    for other in project.documents.values():
        if other.key not in fixes:
            trial.open(other.uri, other.source)
    for other, _ in changes:
        trial.open(other.uri, apply(other.text, fixes[other.key]))
    before = [other for other, _ in changes]
    after = [trial.documents[other.uri] for other in before]
    numbers, new_numbers = _numbers(before), _numbers(after)
    for one, two in zip(before, after, strict=True):
        if len(one.names) != len(two.names):
            raise RenameRefused(f"`{new}` would be read as something else in {one.path.name}")
        for old_name, new_name in zip(one.names, two.names, strict=True):
            if _meaning(old_name, numbers) != _meaning(new_name, new_numbers):
                at = f"{one.path.name}:{old_name.span.line}"
                raise RenameRefused(f"`{new_name.name}` would mean something else at {at}")
        old_errors, new_errors = (
            [d for d in document.inspected[0].diagnostics if d.severity == "error"] for document in (one, two)
        )
        more = Counter(d.code for d in new_errors) - Counter(d.code for d in old_errors)
        if more:
            said = next(d for d in new_errors if d.code in more)
            raise RenameRefused(f"the program would then be refused: {said.message}")


Numbers = dict[str, dict[tuple[int, int], int]]
"""Key of a file -> place of each name that it declares -> its number among the names."""


def _numbers(documents: list[Document]) -> Numbers:
    return {
        d.key: {(o.span.line, o.span.column): i for i, o in enumerate(d.names) if o.role == "declares"}
        for d in documents
    }


def _meaning(occurrence: Occurrence, numbers: Numbers) -> object:
    """Return what a name means, in a form that does not depend on how names are spelt."""
    match occurrence.symbol:
        case Symbol(file=file, span=span):
            at = span.line, span.column
            return file.key, numbers.get(file.key, {}).get(at, at)
        case None:
            return None
        case word:
            return word.name, word.category
