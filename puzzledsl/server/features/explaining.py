"""Explanations of diagnostic codes: their hover text and their place in the installed reference."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.explanations import Explanation
from puzzledsl.base.resources import resource
from puzzledsl.server.document import Document
from puzzledsl.server.positions import covers

COMMAND = "pzl.explain"
"""The command that opens the reference at a given code."""


@cache
def reference() -> tuple[Path, dict[str, int]] | None:
    """Return the reference of diagnostics and the line (from 0) of each code; None if it is not installed."""
    try:
        path = resource("docs", "errors.md")
    except FileNotFoundError:
        return None
    heads = (re.match(r"### (\w+):", line) for line in path.read_text("utf-8").split("\n"))
    return path, {head.group(1): number for number, head in enumerate(heads) if head is not None}


def link(code: str) -> types.CodeDescription | None:
    """Return the link to a code's explanation; None if the reference is not installed."""
    place = place_of(code)
    return None if place is None else types.CodeDescription(f"{place[0].as_uri()}#L{place[1] + 1}")


def place_of(code: str) -> tuple[Path, int] | None:
    """Return the file and the line (from 0) that explain a code; None if the reference lacks it."""
    known = reference()
    return (known[0], known[1][code]) if known is not None and code in known[1] else None


def explain_action(code: str) -> types.CodeAction:
    """Return the code action that opens the explanation of a code."""
    command = types.Command(f"explain {code}", COMMAND, arguments=[code])
    return types.CodeAction(command.title, types.CodeActionKind.QuickFix, command=command)


def explanations_at(document: Document, line: int, column: int) -> list[str]:
    """Return the explanations, in Markdown, of the diagnostics at a position of a text."""
    found: dict[str, type[Diagnostic]] = {}
    for diagnostic in document.inspected[0].diagnostics:
        span = diagnostic.span
        if span is not None and span.file == str(document.path) and covers(span, line, column):
            found[diagnostic.code] = type(diagnostic)
    return [Explanation.of(kind).as_hover() for kind in found.values()]
