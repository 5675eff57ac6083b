"""Parse text to the syntax tree: the only entry point of the front end."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.suggest import closest
from puzzledsl.syntax import errors, tree
from puzzledsl.syntax.build import build
from puzzledsl.syntax.newlines import lay_out
from puzzledsl.syntax.recover import MAX_MISTAKES, parse_tokens
from puzzledsl.syntax.tokens import lex
from puzzledsl.syntax.words import read_words

MAX_BYTES = 1 << 20
MAX_TOKENS = 40_000
"""Some 4,500 lines, and a second or two. What is larger is no program, and would take minutes to say so."""
_LIMITS = f"{MAX_BYTES:,} bytes and {MAX_TOKENS:,} words and signs"


def parse(text: str, file: str, sink: Sink) -> tree.Module:
    """The syntax tree of a text. Never raises: all mistakes go to `sink`. What could not be read is a `BadExpr`, or left out."""
    text = normalise(text)
    tokens = lex(text[: MAX_BYTES + 1], MAX_TOKENS + 1)
    if len(text) > MAX_BYTES or len(tokens) > MAX_TOKENS:
        nowhere = Span(file, 1, 1, 1, 1)
        sink.add(errors.FileTooLarge(nowhere, path=file, limit=_LIMITS))
        return tree.Module(span=nowhere, items=(), broken=True)
    own = Sink()
    words = read_words(tokens, text, file, own)
    laid_out = lay_out(words, own)
    module = build(parse_tokens(laid_out, words, own), words, own)
    if not own.items:
        return module
    ordered = own.sorted()  # a page of them is read, ten thousand are not
    for diagnostic in ordered[:MAX_MISTAKES]:
        sink.add(diagnostic)
    if len(ordered) >= MAX_MISTAKES:
        sink.add(errors.TooManyMistakes(ordered[MAX_MISTAKES - 1].span, limit=MAX_MISTAKES))
    return dataclasses.replace(module, broken=True)


def normalise(text: str) -> str:
    """Return the text without a byte order mark and with a line feed as the only line end."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _meant(path: Path) -> str | None:
    """The program beside a path that cannot be read: with the ending it lacks, or the name it nearly has."""
    try:
        beside = sorted(each.name for each in islice(path.parent.iterdir(), 1000) if each.suffix == ".pzl")
    except (OSError, ValueError):
        return None
    whole = f"{path.name}.pzl"
    near = whole if whole in beside else closest(path.name, beside)
    return None if near is None else (path.parent / near).as_posix()


def read_source(path: Path | str, sink: Sink) -> str | None:
    """The text of a source file, ready for `parse`; None, and a diagnostic, where it cannot be had."""
    path = Path(path)
    nowhere = Span(str(path), 1, 1, 1, 1)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        near = _meant(path)
        help = f"did you mean `{near}`?" if near else ""
        sink.add(errors.CannotRead(nowhere, path=path, why=why[:1].lower() + why[1:], help=help))
        return None
    return decode(data, str(path), sink)


def decode(data: bytes, file: str, sink: Sink) -> str | None:
    """Return bytes as text, ready for `parse`; None, and a diagnostic, for too many bytes and for other encodings."""
    if len(data) > MAX_BYTES:
        sink.add(errors.FileTooLarge(Span(file, 1, 1, 1, 1), path=file, limit=_LIMITS))
        return None
    try:
        return normalise(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        good = normalise(data[: error.start].decode("utf-8"))
        line, column = good.count("\n") + 1, len(good) - good.rfind("\n")
        sink.add(errors.NotUtf8(Span(file, line, column, line, column + 1), path=file, offset=error.start))
        return None
