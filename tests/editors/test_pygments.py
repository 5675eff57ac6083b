"""The Pygments lexer gives every text back, and colours what the parser reads."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments import highlight, lexers
from pygments.formatters import NullFormatter
from pygments.lexer import Lexer
from pygments.token import Error, Token, Whitespace

from puzzledsl.syntax.highlight import CLASSES, classified
from puzzledsl.syntax.pygments_lexer import TOKENS, PzlLexer
from tests.editors.test_vscode import EVERY_CLASS
from tests.server.texts import ROOT

PROGRAMS = sorted(p for folder in ("spaces", "examples") for p in (ROOT / folder).glob("**/*.pzl"))


def test_is_registered_by_name_and_by_file_name() -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    assert entry["pygments.lexers"] == {"pzl": f"{PzlLexer.__module__}:{PzlLexer.__name__}"}
    assert isinstance(lexers.get_lexer_by_name("pzl"), PzlLexer)
    assert isinstance(lexers.get_lexer_for_filename("nemotron51b.pzl"), PzlLexer)


@pytest.mark.parametrize("text", [p.read_text("utf-8") for p in PROGRAMS], ids=[p.stem for p in PROGRAMS])
def test_a_program_has_no_error_token(text: str) -> None:
    tokens = list(PzlLexer().get_tokens_unprocessed(text))
    assert Error not in {kind for _, kind, _ in tokens}
    assert all(not value.strip() for _, kind, value in tokens if kind is Whitespace)


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    at = 0
    for start, _, value in PzlLexer().get_tokens_unprocessed(text):
        assert start == at
        at += len(value)
        assert text[start:at] == value
    assert at == len(text)


def test_every_class_has_a_token_of_its_own() -> None:
    assert set(TOKENS) == set(CLASSES)
    kinds = {kind for _, kind, _ in PzlLexer().get_tokens_unprocessed(EVERY_CLASS)}
    assert kinds == {*TOKENS.values(), Whitespace}
    assert len(classified(EVERY_CLASS)) < len(list(Lexer.get_tokens(PzlLexer(), EVERY_CLASS)))
    assert all(kind in Token for kind in TOKENS.values())
    assert highlight("let a = 1\n", PzlLexer(), NullFormatter()) == "let a = 1\n"
