"""Plants mistakes of the kinds people make in a correct program, and knows the line of each.

A mutation takes the tokens of one line and changes its text. Whether that makes a mistake is for the caller to verify: an
`x` doubled inside a comment, or a name misspelt into another that fits, is none.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.tokens import Token, lex

Change = tuple[int, int, str]
"""Start and end column (0-based) of a line's text that is replaced, and by what."""

Mutation = Callable[[list[Token], random.Random], Iterator[Change]]
"""All the places of one line where the mutation could be made; one is drawn."""

_UNITS = ("GiB", "s", "ms", "tok/s", "TB/s", "", "TFLOP/s", "tok")
_OTHER_OPERATORS = {
    "<=": ("=", "=<", "->", "+"),
    ">=": ("=", "=>", "|="),
    "<": ("=", "<-"),
    "==": ("=", "==="),
    "=": ("==", ":", ":=", "<="),
    "|": ("||", "&", ",", "/"),
    "..": ("...", ".", ":", "-"),
    "->": ("-", "=>", ",", "to"),
    "+": ("&", "and", "++"),
    "*": ("x", "**", "·"),
    "-=": ("=-", "|=", "=+"),
    "|=": ("=|", "+=", "-="),
    "&=": ("&", "=&", "|="),
    ":": ("=", "=>", "::"),
    "is": ("==", "=", "iz"),
    "same as": ("same", "is same as", "==", "as same"),
    "and": ("&", "&&", "adn"),
    "or": ("||", "ro"),
    "implies": ("=>", "then", "impiles"),
    "not": ("!", "nto"),
    "in": ("of", "==", "on"),
    "of": ("on", "form", "fo", "="),
    "on": ("of", "no", "in"),
    "where": ("if", "wehre", "when"),
    "mod": ("%", "modulo"),
    "because": ("becuase", "//", "as"),
    "for": ("foreach", "fro", "where"),
    "apart": ("part", "apart:"),
    "then": (":", "than"),
    "else": (",", "elze"),
}
_KEYWORD_SLIPS = {
    "require": ("requires", "reqire", "assert", "need"),
    "minimize": ("minimise", "minimze", "mimimize"),
}


def misspelt(word: str, chance: random.Random) -> str:
    """The word with one slip: a letter lost, doubled, replaced or swapped with its neighbour."""
    i = chance.randrange(1, len(word))
    letter = chance.choice("aeionrst")
    slips = [word[:i] + word[i + 1 :], word[:i] + word[i - 1] + word[i:], word[:i] + letter + word[i + 1 :]]
    if i + 1 < len(word):
        slips.append(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    return chance.choice([slip for slip in slips if slip != word] or [word + "q"])


def _over(kinds: str, change: Callable[[Token, random.Random], str | None]) -> Mutation:
    """A mutation that replaces one token of some kinds."""
    wanted = set(kinds.split())

    def mutate(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
        for token in tokens:
            if token.type in wanted and (new := change(token, chance)) is not None and new != token:
                yield _replaced(token, new)

    return mutate


def _replaced(token: Token, text: str) -> Change:
    start = (token.column or 1) - 1
    return start, start + len(token), text


def _misspelt_name(token: Token, chance: random.Random) -> str | None:
    return misspelt(token, chance) if len(token) > 2 else None


def _word(tokens: list[Token]) -> Iterator[tuple[Token, list[str]]]:
    """Yield the kind that begins a line and the keywords, each with what might stand there instead."""
    if tokens[0].column == 1 and tokens[0] in KINDS:
        yield tokens[0], [kind for kind in KINDS if kind != tokens[0]]
    for token in tokens:
        if token in KEYWORDS:
            yield token, sorted(KEYWORDS.keys() - {token})


def _misspelt_word(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for token, _ in _word(tokens):
        if len(token) > 2:
            yield _replaced(token, chance.choice([misspelt(token, chance), *_KEYWORD_SLIPS.get(token, ())]))


def _wrong_word(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for token, others in _word(tokens):
        yield _replaced(token, chance.choice(others))


def _wrong_unit(token: Token, chance: random.Random) -> str | None:
    number = token.rstrip("%µ/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ")
    unit = chance.choice(_UNITS)
    return number + (" " if "tok" in unit else "") + unit


def _wrong_operator(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for token in tokens:
        if token in _OTHER_OPERATORS:
            yield _replaced(token, chance.choice(_OTHER_OPERATORS[token]))


def _unknown_attribute(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for before, token in itertools.pairwise(tokens):
        if before.type == "DOT" and token.type == "NAME":
            yield _replaced(token, chance.choice(["size", "total", "memroy", "width_", "batch_size"]))


def _layer_out_of_range(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    inside = False
    for before, token in itertools.pairwise(tokens):
        inside = (token.type == "LSQB" and before == "layers") or (inside and token.type != "RSQB")
        if inside and token.type == "QUANTITY" and before.type in ("LSQB", "RANGE"):
            yield _replaced(token, chance.choice(["400", "999", "1e6"]))


def _impossible_number(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    """A figure nothing of this name can have."""
    for name, colon, token in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if colon.type in ("COLON", "EQUAL") and token.type == "QUANTITY" and name.type == "NAME":
            yield _replaced(token, chance.choice(["0.3", "1e30", "7000000", "3"]))


def _other_name(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    """`of` or `on` something of another kind."""
    for before, token in itertools.pairwise(tokens):
        if before in ("of", "on") and token.type == "NAME" and tokens[1].type == "NAME":
            yield _replaced(token, tokens[1])


def _cut_line(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    """The end of the line is lost, comment and all."""
    for token in tokens[1:]:
        yield (token.column or 1) - 1, 10**6, ""


def _inserted(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for token in tokens:
        at = (token.column or 1) - 1
        yield at, at, chance.choice("$ |@|? |= |) |} |{ |( |, |. |7 |x ".split("|"))


def _equals_for_colon(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for before, token in itertools.pairwise(tokens):
        if token.type == "COLON" and before.type == "NAME":
            yield _replaced(token, " =")


def _lost_quote(token: Token, chance: random.Random) -> str | None:
    return chance.choice([token[:-1], token[1:], token[:-1] + "'"])


def _swapped_neighbours(tokens: list[Token], chance: random.Random) -> Iterator[Change]:
    for one, two in itertools.pairwise(tokens):
        start, end = (one.column or 1) - 1, (two.column or 1) - 1 + len(two)
        yield start, end, f"{two} {one}"


_BRACKETS = "LBRACE RBRACE LPAR RPAR LSQB RSQB"
_OTHER_BRACKET = {"(": "[", ")": "]", "[": "(", "]": ")"}
_OPERATORS = "CMP ADD STAR VBAR ARROW RANGE EQUAL EXTEND REMOVE KEEP IS AND OR IMPLIES COLON"
MUTATIONS: dict[str, Mutation] = {
    "lost bracket": _over(_BRACKETS, lambda token, chance: ""),
    "doubled bracket": _over(_BRACKETS, lambda token, chance: token * 2),
    "other bracket": _over("LPAR RPAR LSQB RSQB", lambda token, chance: _OTHER_BRACKET[token]),
    "misspelt name": _over("NAME", _misspelt_name),
    "misspelt word": _misspelt_word,
    "wrong word": _wrong_word,
    "wrong unit": _over("QUANTITY", _wrong_unit),
    "bad unit": _over("QUANTITY", lambda token, chance: token + "qb" if token[-1].isalpha() else None),
    "wrong operator": _wrong_operator,
    "lost operator": _over(_OPERATORS, lambda token, chance: ""),
    "doubled token": _over("NAME QUANTITY CMP STAR VBAR EQUAL COMMA STRING", lambda t, chance: f"{t} {t}"),
    "lost comma": _over("COMMA", lambda token, chance: ""),
    "lost name": _over("NAME QUANTITY", lambda token, chance: ""),
    "equals for colon": _equals_for_colon,
    "lost quote": _over("STRING", _lost_quote),
    "unknown attribute": _unknown_attribute,
    "layer out of range": _layer_out_of_range,
    "impossible number": _impossible_number,
    "other name": _other_name,
    "cut line": _cut_line,
    "stray sign": _inserted,
    "swapped neighbours": _swapped_neighbours,
}


@dataclass(frozen=True)
class Mistake:
    """One changed line: its number from 1, its new text, the kind of mutation."""

    line: int
    text: str
    kind: str


def mistake(text: str, chance: random.Random, avoid: set[int] = frozenset()) -> Mistake | None:  # type: ignore[assignment]
    """A mutation of one line that holds code and is none of `avoid`; None where the draw found no place."""
    lines = text.split("\n")
    number = chance.randrange(len(lines))
    if number + 1 in avoid:
        return None
    tokens = [t for t in lex(lines[number]) if t.type not in ("COMMENT", "DOC", "_NL")]
    kind = chance.choice(list(MUTATIONS))
    places = list(MUTATIONS[kind](tokens, chance)) if tokens else []
    if not places:
        return None
    start, end, new = chance.choice(places)
    changed = lines[number][:start] + new + lines[number][end:]
    return Mistake(number + 1, changed, kind) if changed != lines[number] else None


def with_mistakes(text: str, mistakes: list[Mistake]) -> str:
    """The program with these lines changed."""
    lines = text.split("\n")
    for one in mistakes:
        lines[one.line - 1] = one.text
    return "\n".join(lines)
