"""Plants the mistakes people make in a correct program, one a line, and says where."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable

from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import STATEMENT_KEYWORDS

Mutation = Callable[[str, random.Random], str | None]
"""A line of code and a source of chance to the line with one mistake, or None where it offers no place for one."""


def _at(pattern: str, change: Callable[[re.Match[str], random.Random], str]) -> Mutation:
    """Change one match of a pattern outside strings and comments."""

    def mutate(line: str, chance: random.Random) -> str | None:
        code = re.sub(r'"[^"]*"', lambda m: '"' + "\0" * (len(m.group()) - 2) + '"', line).split("#")[0]
        matches = list(re.finditer(pattern, code))
        if not matches:
            return None
        match = chance.choice(matches)
        return line[: match.start()] + change(match, chance) + line[match.end() :]

    return mutate


def _misspell(match: re.Match[str], chance: random.Random) -> str:
    word = match.group()
    i = chance.randrange(1, len(word) - 1)
    drop, swap = word[:i] + word[i + 1 :], word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return drop if swap == word else chance.choice([drop, swap, word[:i] + word[i] + word[i:]])


def _misspell_first(words: Iterable[str]) -> Mutation:
    def mutate(line: str, chance: random.Random) -> str | None:
        match = re.match(rf" *({'|'.join(w for w in words if len(w) > 3)}) ", line)
        if match is None:
            return None
        start, word = match.start(1), match.group(1)
        return line[:start] + _misspell(re.match(".*", word), chance) + line[start + len(word) :]  # type: ignore[arg-type]

    return mutate


MUTATIONS: dict[str, Mutation] = {
    "drop bracket": _at(r"[()\[\]]", lambda m, c: ""),
    "extra bracket": _at(r"[()\[\]]", lambda m, c: m.group() * 2),
    "other bracket": _at(r"[)\]]", lambda m, c: "]" if m.group() == ")" else ")"),
    "drop opening brace": _at(r"\{", lambda m, c: ""),
    "drop closing brace": _at(r"\}", lambda m, c: ""),
    "extra closing brace": _at(r"\}", lambda m, c: "}}"),
    "misspelt statement": _misspell_first(STATEMENT_KEYWORDS),
    "misspelt kind": _misspell_first(KINDS),
    "drop equals": _at(r" = ", lambda m, c: " "),
    "double operator": _at(r" (<=|>=|\*|=|==|->) ", lambda m, c: f" {m.group(1)} {m.group(1)} "),
    "drop operator": _at(r" (<=|>=|\*|==|->|and|implies) ", lambda m, c: " "),
    "drop operand": _at(r"(?<=[=*|] )[\w.%]+", lambda m, c: ""),
    "drop quote": _at(r'"(?!\0)(?=[^\0]|$)|(?<!\0)"', lambda m, c: ""),
    "strange character": _at(r"(?<=\w) (?=\w)", lambda m, c: c.choice([" $ ", " @ ", " ? "])),
    "foreign spelling": _at(
        r" (and|<=|>=|->) ", lambda m, c: {"and": " && ", "<=": " ≤ ", ">=": " ≥ ", "->": " → "}[m.group(1)]
    ),
    "semicolon": _at(r"(?<=\w)$", lambda m, c: ";"),
    "bad unit": _at(r"\b\d[\d.]*(GiB|min|s|B|Ki|x)\b", lambda m, c: m.group() + "q"),
    "equals for colon": _at(r"(?<=\w): (?=\w)", lambda m, c: " = "),
    "keyword as name": _at(
        r"(?<=^search )\w+|(?<=^space )\w+|(?<=^score )\w+", lambda m, c: c.choice(["for", "require", "if"])
    ),
    "drop name": _at(r"(?<=^search )\w+|(?<=\.)[a-z]\w*|(?<=^data )\w+", lambda m, c: ""),
    "drop any token": _at(r"\w+|[^\w\s]", lambda m, c: ""),
    "double any token": _at(r"\w+|[^\w\s]", lambda m, c: m.group() + " " + m.group()),
    "any other token": _at(
        r"\w+|[^\w\s]", lambda m, c: c.choice('= ( ) { } [ ] , : . | + x 7 for require " ..'.split())
    ),
    "two values": _at(r"(?<== )[\w.]+\b(?!\()", lambda m, c: m.group() + " " + m.group()),
}


def plant(text: str, count: int, chance: random.Random, apart: int = 3) -> tuple[str, dict[int, str]]:
    """A program with up to `count` mistakes at least `apart` lines from each other, and line -> kind of mistake."""
    lines = text.split("\n")
    planted: dict[int, str] = {}
    for _ in range(count * 20):
        number = chance.randrange(len(lines))
        kind = chance.choice(list(MUTATIONS))
        if len(planted) == count or any(abs(number + 1 - other) < apart for other in planted):
            continue
        changed = MUTATIONS[kind](lines[number], chance)
        if changed is not None and changed != lines[number]:
            lines[number] = changed
            planted[number + 1] = kind
    return "\n".join(lines), planted
