"""The LALR parser of the language, loaded from a cache if the cache can be trusted.

Building the tables takes half a second, loading them 30 ms. Lark's tables are a pickle, and loading a pickle can run
code. The cache therefore lives in the user's own cache folder without access for others, and a file that another user
could have written is not read. If anything is wrong with the cache, the tables are built again.
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

from puzzledsl.base.resources import resource
from puzzledsl.syntax.lark_alone import Lark, Token, lark

_OPTIONS: dict[str, Any] = {
    "parser": "lalr",
    "lexer": "basic",
    "start": ["start", "trivia"],
    "propagate_positions": True,
    "maybe_placeholders": False,
}


@functools.cache
def grammar() -> Lark:
    """Return the LALR parser of the language."""
    parser = _loaded()
    parser.lexer = parser.parser.lexer  # else every `lex` compiles the words anew
    return parser


def _loaded() -> Lark:
    """Load the parser from the cache; if that fails, build it and write the cache."""
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
    """Build the parser from the grammar files. `strict` raises on any conflict (needs interegular)."""
    if strict:
        import interegular

        # hidden from Lark by lark_alone
        lark.lexer.interegular = interegular  # type: ignore[attr-defined]
        lark.lexer.has_interegular = True
    return Lark.open(str(resource("grammars", "pzl.lark")), strict=strict, **_OPTIONS)


def lex(text: str) -> Iterator[Token]:
    """Yield the tokens of any text: comments, newlines and the three kinds of lexical mistakes, without blanks."""
    return grammar().lex(text)


def _cache_path() -> Path | None:
    """Return the cache file for the present grammar files, Lark and Python versions; None without a safe folder."""
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
    """Return True if no other user can write there. On Windows, user folders are private by default."""
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
    """Write the tables to a temporary file and rename it, so that no reader sees a partial file."""
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
