"""The Pygments lexer `pzl`, found by its entry point. Sphinx, MkDocs, Jupyter and `pygmentize` colour programs with it."""

from collections.abc import Iterator
from typing import ClassVar

from pygments import token as kinds
from pygments.lexer import Lexer

from puzzledsl.syntax.highlight import CLASSES, classified

TOKENS = {name: kinds.string_to_tokentype(kind) for name, (_, kind) in CLASSES.items()}
"""Class of `highlight` -> Pygments' type."""


class PzlLexer(Lexer):
    """Lexer of `.pzl` texts. It accepts any text; characters that are no word of the language become Error tokens."""

    name = "pzl"
    url = "https://arxiv.org/abs/2411.19146"
    aliases: ClassVar[list[str]] = ["pzl", "puzzledsl"]
    filenames: ClassVar[list[str]] = ["*.pzl"]
    mimetypes: ClassVar[list[str]] = ["text/x-pzl"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, kinds._TokenType, str]]:
        """Yield the offset, type and text of every token, and of the blanks between them."""
        at = 0
        for token, its_class in classified(text):
            start = token.start_pos
            if start > at:
                yield at, kinds.Whitespace, text[at:start]
            yield start, TOKENS[its_class], str(token)
            at = start + len(token)
        if at < len(text):
            yield at, kinds.Whitespace, text[at:]
