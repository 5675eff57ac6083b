"""Classes of tokens for syntax colouring, from the words of a line alone. The language server and Pygments use them."""

from collections.abc import Sequence

from puzzledsl.language.words import DECLARATIONS, KEYWORDS, OPERATOR_KEYWORDS, TARGET_KEYWORDS
from puzzledsl.syntax.tokens import Token, lex

CLASSES: dict[str, tuple[str, str]] = {
    "comment": ("comment", "Comment.Single"),
    "doc": ("comment", "Literal.String.Doc"),
    "keyword": ("keyword", "Keyword"),
    "operator_word": ("keyword", "Operator.Word"),
    "kind": ("keyword", "Keyword.Declaration"),
    "declaration": ("class", "Name.Class"),
    "type": ("type", "Keyword.Type"),
    "attribute": ("property", "Name.Attribute"),
    "argument": ("parameter", "Name.Variable"),
    "setting": ("property", "Name.Property"),
    "call": ("function", "Name.Function"),
    "name": ("variable", "Name"),
    "string": ("string", "Literal.String.Double"),
    "number": ("number", "Literal.Number"),
    "operator": ("operator", "Operator"),
    "punctuation": ("", "Punctuation"),
    "error": ("", "Error"),
}
"""Class -> its token type in the language server (empty: no colour there), and its token type in Pygments."""
DECLARES = ("let", "param", "fn")
"""Keywords behind which stands the name that they declare."""
PUNCTUATION = ("LPAR", "RPAR", "LSQB", "RSQB", "LBRACE", "RBRACE", "COMMA", "COLON", "DOT")
ASSIGNS = ("EQUAL", "EXTEND", "REMOVE", "KEEP")
MISTAKES = ("FOREIGN", "UNTERMINATED", "UNKNOWN")
_FIXED: dict[str, str] = {
    "COMMENT": "comment",
    "STRING": "string",
    "QUANTITY": "number",
    "SAME_AS": "operator_word",
    **dict.fromkeys(PUNCTUATION, "punctuation"),
    **dict.fromkeys(MISTAKES, "error"),
}


def classified(text: str) -> list[tuple[Token, str]]:
    """Return every token of a text but newlines, each with its class, a key of CLASSES."""
    tokens = [*lex(text)]
    found: list[tuple[Token, str]] = []
    before: list[tuple[Token, str]] = []  # on the line
    for index, token in enumerate(tokens):
        if token.type == "_NL":
            before = []
            continue
        following = tokens[index + 1].type if index + 1 < len(tokens) else ""
        before.append((token, _class(token, before, following)))
        found.append(before[-1])
    return found


def _class(token: Token, before: Sequence[tuple[Token, str]], following: str) -> str:
    """Return a token's class. `before`: the line's tokens with their classes so far; `following`: the next token's kind."""
    if token.type in _FIXED:
        return _FIXED[token.type]
    if token.type == "DOC":
        return "comment" if before else "doc"
    if token.type != "NAME":
        known: str = "operator_word" if token in OPERATOR_KEYWORDS else "keyword"
        return known if token in KEYWORDS else "operator"
    last, last_class = before[-1] if before else (None, None)
    if last is None and token.column == 1 and token in DECLARATIONS and following == "NAME":
        return "kind"
    if last_class == "kind" or (last is not None and last_class == "keyword" and last in DECLARES):
        return "declaration"
    if last is not None and last.type == "DOT":
        return "attribute"
    if last is not None and last_class == "keyword" and last in TARGET_KEYWORDS:
        return "name"
    if [t.type for t, _ in before] == ["PARAM", "NAME", "COLON"]:
        return "type"
    if following == "COLON":
        return "argument"
    if following == "LPAR":
        return "call"
    return "setting" if following in ASSIGNS else "name"
