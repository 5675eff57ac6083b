"""Openings of docstrings: a verb or a noun phrase, never a question word or a dangling "of" or "that"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    "opening", ["What it is.", "How it goes.", "Where.", "Whether so.", "Of that.", "\n That"]
)
@pytest.mark.parametrize(
    "source",
    [
        '"""{}"""',
        'class A:\n    """{}"""',
        'def f():\n    """{}"""',
        'async def f():\n    """{}"""',
        'class A:\n    def f(self):\n        """{}"""',
        'A = 1\n"""{}"""',
        'A: int = 1\n"""{}"""',
        'class A:\n    a: int\n    """{}"""',
        'if True:\n    A = 1\n    """{}"""',
    ],
)
def test_every_place_of_a_docstring_is_checked(source: str, opening: str) -> None:
    assert len(list(wrong_openings(source.format(opening), "a.py"))) == 1
    assert not list(wrong_openings(source.format("Return what it is."), "a.py"))
    assert not list(wrong_openings(source.format("Offset of a row."), "a.py"))
