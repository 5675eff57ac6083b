"""The lexer that Pygments finds as `pzl`: Sphinx, MkDocs, Jupyter and `pygmentize` colour programs with it.

Its words are the parser's own. Pygments loads this module by its entry point; nothing of ours does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pygments.lexer import Lexer
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
    _TokenType,
)

from puzzledsl.syntax.highlight import TokenClass, classified

TOKENS: dict[TokenClass, _TokenType] = {
    "comment": Comment.Single,
    "doc": String.Doc,
    "keyword": Keyword,
    "operator_word": Operator.Word,
    "kind": Keyword.Declaration,
    "declaration": Name.Class,
    "type": Keyword.Type,
    "attribute": Name.Attribute,
    "argument": Name.Variable,
    "setting": Name.Property,
    "call": Name.Function,
    "name": Name,
    "string": String.Double,
    "number": Number,
    "operator": Operator,
    "punctuation": Punctuation,
    "error": Error,
}


class PzlLexer(Lexer):
    """Pygments' view of a `.pzl` text. Every text lexes; what is no word of the language is an Error token."""

    name = "pzl"
    url = "https://arxiv.org/abs/2411.19146"
    aliases: ClassVar[list[str]] = ["pzl", "puzzledsl"]
    filenames: ClassVar[list[str]] = ["*.pzl"]
    mimetypes: ClassVar[list[str]] = ["text/x-pzl"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Offset, type and text of every token, the blanks between them included."""
        at = 0
        for token, its_class in classified(text):
            start = token.start_pos
            if start > at:
                yield at, Whitespace, text[at:start]
            yield start, TOKENS[its_class], str(token)
            at = start + len(token)
        if at < len(text):
            yield at, Whitespace, text[at:]
