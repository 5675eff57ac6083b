"""State of a program under construction: its blocks of text, its names, and what each name stands for."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

# Ends of names. No name is one slip from another, so that a misspelt one is nobody else's.
_SYLLABLES = "bar den fix gol hum jet kip lod mer nax pol quo rin sab tup vex wol yar zim cro".split()
_REASON = "‹one GPU, no swap¦the paper's claim¦answers must feel instant¦die Vorgabe von 2026, größer nie¦(as agreed)›"
_NOTE = (
    '‹decode-heavy¦see the table¦measured, not guessed¦für später¦so-called "wide" choice¦{ not code }¦6 x 9›'
)


@dataclass(frozen=True)
class Parent:
    """A parent's name and the figures that statements about it must respect."""

    name: str
    layers: int
    kv_heads: int
    heads: int
    weights: bool = True  # a checkpoint, not a shape alone


@dataclass(frozen=True)
class Space:
    name: str
    parent: Parent
    attention: tuple[str, ...]  # alternatives of every layer's choice at least somewhere
    ffn: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A bld, score, search or uptrain: its name and the space it is about."""

    name: str
    space: Space
    coupled: bool = False
    measured: bool = False  # a score that text measures
    refined: bool = False  # a search


@dataclass
class Writer:
    """A program being written. Items are blocks of lines; declarations refer to what was written before them."""

    chance: random.Random
    items: list[list[str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    parents: list[Parent] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    hardware: list[str] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)  # hardware that has `memory`, `bandwidth`, `gpus` …
    linked: list[str] = field(default_factory=list)  # profiles that may have several GPUs
    scenarios: list[str] = field(default_factory=list)
    spaces: list[Space] = field(default_factory=list)
    blds: list[Stage] = field(default_factory=list)
    scores: list[Stage] = field(default_factory=list)
    searches: list[Stage] = field(default_factory=list)
    uptrains: list[Stage] = field(default_factory=list)
    constants: dict[str, list[str]] = field(default_factory=dict)  # dimension -> names of `let`s and `param`s

    # ------------------------------------------------------------ chance

    def maybe(self, share: float = 0.5) -> bool:
        return self.chance.random() < share

    def pick(self, options: Sequence[T]) -> T:
        return self.chance.choice(options)

    def some(self, options: Sequence[T], least: int = 1) -> list[T]:
        """Some of the options, in their order."""
        count = self.chance.randint(least, len(options))
        kept = set(self.chance.sample(range(len(options)), count))
        return [option for i, option in enumerate(options) if i in kept]

    def fill(self, text: str) -> str:
        """The text with one option in place of each `‹one¦other›`, the innermost first."""
        while found := re.search("‹([^‹›]*)›", text):
            text = text[: found.start()] + self.pick(found[1].split("¦")) + text[found.end() :]
        return text

    # ------------------------------------------------------------ text

    def name(self, stems: str) -> str:
        """A fresh name that begins with one of the stems, which blanks part."""
        stem = found = self.pick(stems.split())
        while found in self.names:
            found = stem + "_" + self.pick(_SYLLABLES) + self.pick(_SYLLABLES)
        self.names.add(found)
        return found

    def item(self, *lines: str) -> None:
        """A declaration, with a doc comment, a comment before it or behind one of its lines now and then."""
        block = [f"{line}  # {self.fill(_NOTE)}" if self.maybe(0.06) else line for line in lines]
        if self.maybe(0.1):
            block.insert(0, f"## {self.fill(_NOTE).capitalize()}.")
        elif self.maybe(0.05):
            block.insert(0, f"# {self.fill(_NOTE)}")
        self.items.append(block)

    def body(self, head: str, statements: Sequence[str]) -> list[str]:
        """`head { … }`, a statement a line, or several short ones on one where that is allowed."""
        if statements and sum(map(len, statements)) < 70 and self.maybe(0.3):
            return [f"{head} {{ {', '.join(statements)} }}"]
        lines, pending = [f"{head} {{"], ""
        for statement in statements:
            joined = f"{pending}, {statement}" if pending else statement
            if len(joined) < 70 and "\n" not in joined and self.maybe(0.15):
                pending = joined
                continue
            lines += [f"  {line}" for line in joined.split("\n")]
            pending = ""
        return [*lines, *([f"  {pending}"] if pending else []), "}"]

    def because(self) -> str:
        return f' because "{self.fill(_REASON)}"' if self.maybe(0.3) else ""

    def text(self) -> str:
        """The whole program: declarations in their order or, now and then, in any."""
        items = list(self.items)
        if self.maybe(0.2):
            self.chance.shuffle(items)
        lines: list[str] = []
        for item in items:
            lines += item
            if len(item) > 1 or self.maybe(0.2):
                lines.append("")
        return "\n".join(lines) + "\n"
