from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax import grammar as module
from puzzledsl.syntax.grammar import build_grammar, grammar, lex


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and a grammar not yet loaded."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder))
    grammar.cache_clear()
    yield folder
    grammar.cache_clear()


def works() -> bool:
    return [t.type for t in lex("let a = 1")] == ["LET", "NAME", "EQUAL", "QUANTITY"]


def test_the_grammar_has_no_conflict() -> None:
    build_grammar(strict=True)


def test_the_keywords_are_those_of_the_grammar() -> None:
    words = {
        t.pattern.value for t in grammar().terminals if t.pattern.type == "str" and t.pattern.value.isalpha()
    }
    assert words == set(KEYWORDS)


def test_the_cache_is_private_and_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works()
    (file,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o077 == 0
    grammar.cache_clear()
    monkeypatch.setattr(module, "build_grammar", lambda: pytest.fail("not read from the cache"))
    assert works()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04N."])
def test_a_damaged_cache_is_rebuilt(cache: Path, content: bytes) -> None:
    assert works()
    (file,) = cache.iterdir()
    file.write_bytes(content)
    grammar.cache_clear()
    assert works()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows keeps user folders apart by itself")
def test_a_cache_others_can_write_is_not_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert works()
    (file,) = cache.iterdir()
    file.chmod(0o666)
    grammar.cache_clear()
    monkeypatch.setattr("lark.Lark.load", lambda file: pytest.fail("read"))
    assert works()


def test_no_cache_folder_is_no_failure(cache: Path) -> None:
    cache.write_text("a file stands where the folder should be")
    assert works()


def test_every_text_lexes() -> None:
    text = "\n".join(map(chr, [*range(1, 0x250), 0x2028, 0x1F600]))
    assert "".join(lex(text)).split() == text.replace("\t", "").replace(" ", "").split()
