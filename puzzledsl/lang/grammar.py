"""Loads the grammar, from a cache where one can be trusted.

Building the tables takes half a second and loading them 30 ms. Lark's tables are a pickle, and a pickle runs code, so
the cache lives in the user's own cache folder, closed to others, and a file that somebody else could have written is
not read. Whatever is wrong with the cache, the grammar is built afresh.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lark
from lark import Lark, Token

from puzzledsl.resources import resource

_OPTIONS: dict[str, Any] = {
    "parser": "lalr",
    "lexer": "basic",
    "start": ["start", "trivia"],
    "propagate_positions": True,
    "maybe_placeholders": False,
}


@functools.cache
def grammar() -> Lark:
    """The LALR parser of the language."""
    parser = _loaded()
    parser.lexer = parser.parser.lexer  # else every `lex` compiles the words anew
    return parser


def _loaded() -> Lark:
    """The parser from the cache, else built and put there."""
    try:
        path = _cache_path()
        if path is not None and (cached := _load(path)) is not None:
            return cached
    except Exception:  # a damaged pickle raises anything at all; the cache is never worth a failure
        path = None
    built = build_grammar()
    if path is not None:
        _save(built, path)
    return built


def build_grammar(*, strict: bool = False) -> Lark:
    """The parser, built from the grammar files. `strict` raises on any conflict (needs interegular)."""
    return Lark.open(str(resource("grammars", "pzl.lark")), strict=strict, **_OPTIONS)


def lex(text: str) -> Iterator[Token]:
    """The tokens of a text: comments, newlines and the three kinds of mistake included, blanks not. Every text lexes."""
    return grammar().lex(text)


def _cache_path() -> Path | None:
    """Where the tables of these very grammar files are kept. None where no safe folder can be had."""
    import platformdirs

    digest = hashlib.sha256(f"{lark.__version__} {sys.version_info[:3]} {_OPTIONS}".encode())
    for name in ("pzl.lark", "lexical.lark"):
        digest.update(resource("grammars", name).read_bytes())
    cache = Path(platformdirs.user_cache_dir("puzzledsl"))
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return cache / f"grammar-{digest.hexdigest()[:20]}.pickle" if _is_ours(cache.stat()) else None


def _is_ours(status: os.stat_result) -> bool:
    """True when nobody else may write there. Windows keeps user folders apart by itself."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _load(path: Path) -> Lark | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        return Lark.load(file) if _is_ours(os.fstat(file.fileno())) else None


def _save(parser: Lark, path: Path) -> None:
    """Write the tables beside the place and rename, so that a reader never sees half a file."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            parser.save(file)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
