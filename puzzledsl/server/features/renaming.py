"""Rename a name in all files that use it, or refuse.

The changes are first checked in memory. If a name would change its meaning or a new diagnostic would appear, nothing
is changed.
"""

from __future__ import annotations

import re
from collections import Counter

from lsprotocol import types

from puzzledsl.language.words import KEYWORDS
from puzzledsl.server.document import Document, Project
from puzzledsl.server.features.navigation import programs_with
from puzzledsl.server.meanings import Declared, Occurrence, Word
from puzzledsl.server.paths import is_shipped

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
    occurrence, declared = _renamable(document, line, column)
    if not _NAME.fullmatch(new):
        raise RenameRefused(f"`{new}` is no name: letters, digits and `_`, not a digit first")
    if new in KEYWORDS:
        raise RenameRefused(f"`{new}` is a word of the language")
    changes: Changes = []
    for other in programs_with(document, declared):
        found = [o for o in other.names if o.meaning == declared]
        if other.parsed[0].broken:
            raise RenameRefused(
                f"`{other.path.name}` cannot be read to its end: mend its syntax first, or uses may be missed"
            )
        if found:
            changes.append((other, found))
    if new != occurrence.name:
        _try_out(document.project, changes, new)
    return types.WorkspaceEdit(
        document_changes=[
            types.TextDocumentEdit(
                types.OptionalVersionedTextDocumentIdentifier(other.uri, other.version),
                [types.TextEdit(other.lines.range(o.span), new) for o in found],
            )
            for other, found in changes
        ]
    )


def _renamable(document: Document, line: int, column: int) -> tuple[Occurrence, Declared]:
    occurrence = document.name_at(line, column)
    match occurrence:
        case Occurrence(meaning=Declared() as declared):
            path = declared.symbol.file.path if declared.symbol is not None else document.path
            if is_shipped(path):
                raise RenameRefused(f"`{declared.name}` is declared in `{path.name}`, which comes with pzl")
            return occurrence, declared
        case Occurrence(meaning=Word()):
            raise RenameRefused(f"`{occurrence.name}` is a word of the language")
        case Occurrence():
            raise RenameRefused(f"nothing is called `{occurrence.name}`")
    raise RenameRefused("there is no name here")


# ---------------------------------------------------------------- trying it out


def _try_out(project: Project, changes: Changes, new: str) -> None:
    trial = Project(project.encoding, project.folders)
    changed = {other.key: replaced(other.text, found, new) for other, found in changes}
    for other in project.documents.values():
        if other.key not in changed:
            trial.open(other.uri, other.source)
    for other, _ in changes:
        trial.open(other.uri, changed[other.key])
    before = [other for other, _ in changes]
    after = [trial.documents[other.uri] for other in before]
    old, now = _identities(before), _identities(after)
    for one, two in zip(before, after, strict=True):
        if len(one.names) != len(two.names):
            raise RenameRefused(f"`{new}` would be read as something else in {one.path.name}")
        for old_name, new_name in zip(one.names, two.names, strict=True):
            if old[id(old_name)] != now[id(new_name)]:
                at = f"{one.path.name}:{old_name.span.line}"
                raise RenameRefused(f"`{new_name.name}` would mean something else at {at}")
        more = _codes(two) - _codes(one)
        if more:
            said = next(d for d in two.inspected[0].diagnostics if d.code in more)
            raise RenameRefused(f"the program would then be refused: {said.message}")


def replaced(text: str, found: list[Occurrence], new: str) -> str:
    """Return a text with `new` in the place of some names."""
    lines = text.split("\n")
    for occurrence in sorted(found, key=lambda o: o.span, reverse=True):
        span = occurrence.span
        line = lines[span.line - 1]
        lines[span.line - 1] = line[: span.column - 1] + new + line[span.end_column - 1 :]
    return "\n".join(lines)


def _codes(document: Document) -> Counter[str]:
    return Counter(d.code for d in document.inspected[0].diagnostics if d.severity == "error")


def _identities(documents: list[Document]) -> dict[int, object]:
    """Map each name of some texts to an identity of its meaning that does not depend on how names are spelt."""
    number: dict[Declared, tuple[str, int]] = {}
    for document in documents:
        for index, occurrence in enumerate(document.names):
            if occurrence.declares and isinstance(occurrence.meaning, Declared):
                number[occurrence.meaning] = (document.key, index)
    found: dict[int, object] = {}
    for document in documents:
        for occurrence in document.names:
            meaning = occurrence.meaning
            if isinstance(meaning, Declared):
                found[id(occurrence)] = number.get(meaning, (meaning.key, meaning.place))
            elif isinstance(meaning, Word):
                found[id(occurrence)] = (meaning.name, meaning.category)
            else:
                found[id(occurrence)] = None
    return found
