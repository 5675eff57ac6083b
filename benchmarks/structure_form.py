"""A form: a requirement, goal or preference, written in every way that a user would, with its meaning in Python.

A form names the rules of docs/language.md that it uses: anchors, `TABLE:ROW` for the rows of tables. All ways of a form mean the
same, so the answers must be the same. `Each` is a statement about every `i` of a loop; `joined` joins it with and, or and implies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from benchmarks.structure_text import Child, Layer, Menu, Rng, World

Holds = Callable[[Child], bool]
Value = Callable[[Child], Any]


@dataclass(frozen=True)
class Meaning:
    """Ways to write it, as lines of a search, and the truth of it in Python.

    `goal`: its text, its value (less is better). `prefer`: values of which more is better, in order. `before`: declarations.
    `scenarios`: replaces the two usual ones. `solutions`: how many, how far apart. `budgets`: the usual budgets stand beside it.
    """

    holds: Holds
    ways: Mapping[str, str]
    goal: str = "minimize kl"
    value: Value = lambda c: c.kl
    prefer: tuple[Value, ...] = ()
    before: str = ""
    head: str = "search best of w"
    scenarios: str = ""
    solutions: tuple[int, int] = (1, 1)
    budgets: bool = True


@dataclass(frozen=True)
class Each:
    """A statement about every `i` of a loop, in several ways, and whole requirements that mean all of it."""

    loop: str
    places: Sequence[int]
    holds: Callable[[Child, int], bool]
    ways: Mapping[str, str]
    whole: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> Meaning:
        """The statement for every element, in a `for` and in one `all`."""
        ways = {way: f"for {self.loop} {{ require {text} }}" for way, text in self.ways.items()}
        return Meaning(lambda c: all(self.holds(c, i) for i in self.places), ways | dict(self.whole))

    def joined(self, how: str) -> Meaning:
        """The statement, or a layer that may break it."""
        written, spared = JOINED[how]
        loop = f"for {self.loop} {{{{ require {{}} }}}}"
        two = list(self.ways.items())[:: max(1, len(self.ways) - 1)]
        ways = {way: loop.format(written.format(_bracketed(text))) for way, text in two}
        more = how == "and"
        return Meaning(
            lambda c: all(
                spared(c[i]) or (self.holds(c, i) and not (more and c[i].ffn == "noop")) for i in self.places
            ),
            ways,
        )


# how -> what is written, and the layers that may break the statement
JOINED: dict[str, tuple[str, Callable[[Layer], bool]]] = {
    "or": ("{} or layers[i] is noop", lambda x: x.dropped),
    "implies": ("layers[i].attention is not noop implies {}", lambda x: x.attention == "noop"),
    "and": ("{} and layers[i].ffn is not noop or layers[i] is noop", lambda x: x.dropped),
}


def _bracketed(text: str) -> str:
    return f"({text})" if re.search(r"\b(and|or|implies)\b", text) else text


@dataclass(frozen=True)
class Draw:
    """Ingredients of a form: the number of layers, the values of figures in ascending order, random numbers."""

    world: World
    rng: Rng

    @property
    def n(self) -> int:
        """Layers."""
        return self.world.layers

    @property
    def kv(self) -> list[int]:
        """Values of `kv_heads`."""
        return sorted({kv for kv, _ in self.world.attentions.values()})

    @property
    def widths(self) -> list[int]:
        """Values of `width`."""
        return sorted({width for width, _ in self.world.ffns.values()})

    def part(self, share: float, at_least: int = 1) -> int:
        """A share of the layers, a whole number."""
        return max(at_least, round(share * self.n))

    def between(self, low: float, high: float) -> Fraction:
        """A random number of three decimals."""
        return Fraction(f"{self.rng.uniform(low, high):.3f}")


Made = Each | Meaning


@dataclass(frozen=True)
class Form:
    """A form with its rules. `menu`: the alternatives it needs; None for any. `runs`: scores of runs of dropped layers.
    `ends`: embedding and head are choices. `priced`: costs are a profile's, which has prices and any batch. `alone`: more than requirements. `join`: how an `Each` is joined."""

    name: str
    rules: tuple[str, ...]
    make: Callable[[Draw], Made]
    menu: Menu | None = None
    runs: bool = False
    ends: bool = False
    priced: bool = False
    alone: bool = False
    join: str = ""

    def meaning(self, draw: Draw) -> Meaning:
        """The meaning in a world."""
        made = self.make(draw)
        if isinstance(made, Meaning):
            return made
        return made.joined(self.join) if self.join else made.plain()


FORMS: dict[str, Form] = {}


def form(*rules: str, **needs: Any) -> Callable[[Callable[[Draw], Made]], None]:
    """Register a form; an `Each` is registered joined, too."""

    def register(make: Callable[[Draw], Made]) -> None:
        one = Form(make.__name__, rules, make, **needs)
        FORMS[one.name] = one
        if make.__annotations__["return"] == "Each":
            for join in JOINED:
                FORMS[f"{one.name}+{join}"] = replace(
                    one, name=f"{one.name}+{join}", rules=(*rules, "require.logic"), join=join
                )

    return register


# ---------------------------------------------------------------- text


def table(
    a: str, b: str, values: Sequence[int], others: Sequence[int], holds: Callable[[int, int], bool]
) -> str:
    """A relation of two figures as implications, value by value."""
    parts = []
    for v in values:
        allowed = [u for u in others if holds(v, u)]
        if len(allowed) == len(others):
            continue
        then = " or ".join(f"{b} == {u}" for u in allowed)
        parts.append(f"({a} == {v} implies ({then}))" if allowed else f"not {a} == {v}")
    return " and ".join(parts) or f"{a} >= 0"


def equal(a: str, b: str, values: Sequence[int]) -> str:
    """Equality of two figures as implications."""
    return f"all({a} == v implies {b} == v for v in {values})"


def at_most(a: str, b: str, values: Sequence[int]) -> str:
    """The figure `a` is at most `b`, as implications."""
    return f"all({b} <= v implies {a} <= v for v in {values[:-1]})"


KV, WIDTH = "layers[{}].attention.kv_heads", "layers[{}].ffn.width"


def kv(at: object) -> str:
    """`layers[at].attention.kv_heads`."""
    return KV.format(at)


def width(at: object) -> str:
    """`layers[at].ffn.width`."""
    return WIDTH.format(at)
