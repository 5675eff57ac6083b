"""Openings of docstrings: a verb or a noun phrase, never a question word or a dangling "of" or "that"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import puzzledsl

PACKAGE = Path(puzzledsl.__file__).parent
CODE = [PACKAGE, *(PACKAGE.parent / folder for folder in ("benchmarks", "examples", "scripts"))]
OPENING = re.compile(r"\s*(What|How|Where|Whether|Of|That)\b")


def docstrings(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string statement: docstrings, and strings that document an assignment."""
    for node in ast.walk(module):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case _:
                pass


def wrong_openings(source: str, name: str) -> Iterator[str]:
    for line, text in docstrings(ast.parse(source)):
        if OPENING.match(text):
            yield f"{name}:{line}: {text.strip().splitlines()[0]}"


def test_docstrings_open_with_a_verb_or_a_noun_phrase() -> None:
    found = [
        place
        for root in CODE
        for path in sorted(root.rglob("*.py"))
        for place in wrong_openings(
            path.read_text(encoding="utf-8"), path.relative_to(PACKAGE.parent).as_posix()
        )
    ]
    assert not found, "docstrings that open with What, How, Where, Whether, Of or That:\n" + "\n".join(found)
