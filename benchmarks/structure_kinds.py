"""Kinds of structural requirements on the layers' choices: ties, runs, windows, widths by depth, distinct values, counts.

Each kind is a function of what the layers may become and of a random generator. Sizes that are too small are scaled down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.nodes import And, Cardinality, Implies, Is, Logic, Not, Or

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Menu:
    """The alternatives of every layer: KV heads by attention and width by FFN, in the order of the space. `parent` is in both;
    `noop` and `linear` have 0."""

    layers: int
    heads: Mapping[str, int]
    widths: Mapping[str, int]

    def part(self, sub_block: SubBlock) -> Mapping[str, int]:
        """The alternatives of a sub-block, each with its number."""
        return self.heads if sub_block == "attention" else self.widths

    def values(self, sub_block: SubBlock) -> list[int]:
        """The different numbers of a sub-block, ascending."""
        return sorted(set(self.part(sub_block).values()))


@dataclass(frozen=True, slots=True)
class Count:
    """Exactly so many layers have one of these alternatives: a row, not a formula."""

    sub_block: SubBlock
    names: tuple[str, ...]
    exactly: int


Kind = Callable[[Menu, Rng], Sequence[Logic | Count]]


# ---------------------------------------------------------------- statements


def attention(layer: int, *names: str) -> Logic:
    """The attention of a layer is one of these."""
    return Is(layer=layer, sub_block="attention", alternatives=names)


def ffn(layer: int, *names: str) -> Logic:
    """The FFN of a layer is one of these."""
    return Is(layer=layer, sub_block="ffn", alternatives=names)


def number_in(menu: Menu, sub_block: SubBlock, layer: int, wanted: Collection[int]) -> Logic:
    """The KV heads or the width of a layer are one of `wanted`."""
    names = tuple(name for name, value in menu.part(sub_block).items() if value in wanted)
    return Is(layer=layer, sub_block=sub_block, alternatives=names)


def dropped(layer: int) -> Logic:
    """Neither sub-block of a layer is left."""
    return both(attention(layer, "noop"), ffn(layer, "noop"))


def both(*parts: Logic) -> Logic:
    """All hold."""
    return And(operands=parts)


def either(*parts: Logic) -> Logic:
    """At least one holds."""
    return Or(operands=parts)


def iff(first: Logic, second: Logic) -> Logic:
    """Both hold or neither."""
    return both(Implies(condition=first, consequence=second), Implies(condition=second, consequence=first))


def same(menu: Menu, sub_block: SubBlock, first: int, second: int) -> Logic:
    """Two layers have the same alternative of a sub-block."""
    return both(
        *(
            iff(*(Is(layer=i, sub_block=sub_block, alternatives=(name,)) for i in (first, second)))
            for name in menu.part(sub_block)
        )
    )


def same_number(menu: Menu, sub_block: SubBlock, first: int, second: int) -> Logic:
    """Two layers have the same width or number of KV heads."""
    values = menu.values(sub_block)
    return both(*(iff(*(number_in(menu, sub_block, i, {v}) for i in (first, second))) for v in values))


def alike(menu: Menu, layers: Sequence[int]) -> Iterator[Logic]:
    """All of these layers are the same."""
    for first, second in pairwise(layers):
        yield both(same(menu, "attention", first, second), same(menu, "ffn", first, second))


def no_more(menu: Menu, sub_block: SubBlock, first: int, second: int) -> Logic:
    """The second layer's number is at most the first's."""
    values = menu.values(sub_block)
    return both(
        *(
            Implies(
                condition=number_in(menu, sub_block, first, values[: i + 1]),
                consequence=number_in(menu, sub_block, second, values[: i + 1]),
            )
            for i in range(len(values) - 1)
        )
    )


def distinct(menu: Menu, sub_block: SubBlock, at_most: int) -> Logic:
    """At most so many different numbers occur."""
    occurs = (
        either(*(number_in(menu, sub_block, layer, {value}) for layer in range(menu.layers)))
        for value in menu.values(sub_block)
    )
    return Cardinality(operands=tuple(occurs), at_most=at_most)


def windows(layers: int, length: int) -> Iterator[range]:
    """All runs of so many neighbouring layers."""
    for first in range(layers - length + 1):
        yield range(first, first + length)


def neighbours(menu: Menu) -> Iterator[tuple[int, int]]:
    """Each layer and the next."""
    return pairwise(range(menu.layers))


# ---------------------------------------------------------------- ties


def one_width(menu: Menu, _: Rng) -> list[Logic]:
    """One FFN width everywhere: that of layer 0."""
    return [same_number(menu, "ffn", 0, layer) for layer in range(1, menu.layers)]


def groups_of_four(menu: Menu, _: Rng) -> list[Logic]:
    """Groups of four layers alike."""
    firsts = range(0, menu.layers, 4)
    return [t for f in firsts for t in alike(menu, range(f, min(f + 4, menu.layers)))]


def some_tied(menu: Menu, rng: Rng) -> list[Logic]:
    """Ten layers, drawn at random, alike."""
    count = min(10, max(2, menu.layers // 2))
    return [*alike(menu, sorted(rng.permutation(menu.layers)[:count].tolist()))]


def interleaved(menu: Menu, _: Rng) -> list[Logic]:
    """Layer i as layer i + half the depth."""
    half = menu.layers // 2
    return [t for i in range(half) for t in alike(menu, (i, i + half))]


def mirrored(menu: Menu, _: Rng) -> list[Logic]:
    """The last layer as the first, the last but one as the second, and so on."""
    return [t for i in range(menu.layers // 2) for t in alike(menu, (i, menu.layers - 1 - i))]


def paired_attention(menu: Menu, _: Rng) -> list[Logic]:
    """The attention of layers 2 i and 2 i + 1 the same."""
    return [same(menu, "attention", i, i + 1) for i in range(0, menu.layers - 1, 2)]


def frozen_ends(menu: Menu, _: Rng) -> list[Logic]:
    """The first and the last quarter as in the parent, pairs alike between them."""
    quarter = max(1, menu.layers // 4)
    ends = [*range(quarter), *range(menu.layers - quarter, menu.layers)]
    kept = [both(attention(i, "parent"), ffn(i, "parent")) for i in ends]
    middle = range(quarter, menu.layers - quarter)
    return [*kept, *(t for i in middle[:-1:2] for t in alike(menu, (i, i + 1)))]


# ---------------------------------------------------------------- runs and windows


def dropped_run(menu: Menu, _: Rng) -> list[Logic]:
    """Exactly eight layers dropped, next to each other."""
    length = min(8, max(1, menu.layers // 4))
    runs = (both(*map(dropped, window)) for window in windows(menu.layers, length))
    every = tuple(map(dropped, range(menu.layers)))
    return [either(*runs), Cardinality(operands=every, at_least=length, at_most=length)]


def one_run(menu: Menu, _: Rng) -> list[Logic]:
    """Layers without attention are next to each other, and there are at least a quarter of all."""
    without = [attention(i, "noop") for i in range(menu.layers)]
    starts = [without[0], *(both(b, Not(operand=a)) for a, b in pairwise(without))]
    return [
        Cardinality(operands=tuple(starts), at_most=1),
        Cardinality(operands=tuple(without), at_least=max(1, menu.layers // 4)),
    ]


def short_gaps(menu: Menu, _: Rng) -> list[Logic]:
    """No three layers in a row without attention."""
    return [Not(operand=both(*(attention(i, "noop") for i in w))) for w in windows(menu.layers, 3)]


def full_windows(menu: Menu, _: Rng) -> list[Logic]:
    """The parent's attention at least once in every four layers in a row."""
    return [either(*(attention(i, "parent") for i in w)) for w in windows(menu.layers, min(4, menu.layers))]


def every_third(menu: Menu, _: Rng) -> list[Logic]:
    """Every third layer as in the parent, or dropped."""
    return [
        either(both(attention(i, "parent"), ffn(i, "parent")), dropped(i)) for i in range(0, menu.layers, 3)
    ]


def alternating(menu: Menu, _: Rng) -> list[Logic]:
    """Layers with softmax attention and layers without take turns."""
    full = [
        number_in(menu, "attention", i, {v for v in menu.values("attention") if v})
        for i in range(menu.layers)
    ]
    return [iff(b, Not(operand=a)) for a, b in pairwise(full)]


# ---------------------------------------------------------------- widths and KV heads by depth


def narrowing(menu: Menu, _: Rng) -> list[Logic]:
    """Widths never grow with depth, and no two neighbours are without attention."""
    apart = [Not(operand=both(attention(a, "noop"), attention(b, "noop"))) for a, b in neighbours(menu)]
    return [*apart, *(no_more(menu, "ffn", a, b) for a, b in neighbours(menu))]


def fewer_heads(menu: Menu, _: Rng) -> list[Logic]:
    """KV heads never grow with depth."""
    return [no_more(menu, "attention", a, b) for a, b in neighbours(menu)]


def width_steps(menu: Menu, _: Rng) -> list[Logic]:
    """Widths of neighbours differ by one step at most."""
    values = menu.values("ffn")
    return [
        Implies(
            condition=number_in(menu, "ffn", a, {value}),
            consequence=number_in(menu, "ffn", b, values[max(0, i - 1) : i + 2]),
        )
        for a, b in neighbours(menu)
        for i, value in enumerate(values)
    ]


def width_hill(menu: Menu, _: Rng) -> list[Logic]:
    """Widths grow up to some layer (one of 16 places) and shrink from there on."""
    up = [no_more(menu, "ffn", b, a) for a, b in neighbours(menu)]
    down = [no_more(menu, "ffn", a, b) for a, b in neighbours(menu)]
    peaks = range(0, menu.layers, max(1, menu.layers // 16))
    return [either(*(both(*up[:peak], *down[peak:]) for peak in peaks))]


# ---------------------------------------------------------------- distinct values and counts


def two_widths(menu: Menu, _: Rng) -> list[Logic]:
    """At most two different widths."""
    return [distinct(menu, "ffn", 2)]


def few_sizes(menu: Menu, _: Rng) -> list[Logic]:
    """At most two different numbers of KV heads, at most three widths."""
    return [distinct(menu, "attention", 2), distinct(menu, "ffn", 3)]


def exact_counts(menu: Menu, rng: Rng) -> list[Logic | Count]:
    """Exactly a quarter of the layers without attention, exactly a quarter of one width, and no two neighbours dropped."""
    count = max(1, menu.layers // 4)
    width = int(rng.choice([v for v in menu.values("ffn") if v]))
    names = tuple(name for name, value in menu.widths.items() if value == width)
    apart = [Not(operand=both(dropped(a), dropped(b))) for a, b in neighbours(menu)]
    return [Count("attention", ("noop",), count), Count("ffn", names, count), *apart]


# ---------------------------------------------------------------- implications


def linear_or_noop(menu: Menu, _: Rng) -> list[Logic]:
    """If any attention is linear, none is a no-op."""
    every = range(menu.layers)
    linear, noop = (either(*(attention(i, name) for i in every)) for name in ("linear", "noop"))
    return [Implies(condition=linear, consequence=Not(operand=noop))]


def chains(menu: Menu, rng: Rng) -> list[Logic]:
    """Random implications over three layers, as many as there are layers; the parent meets all."""
    return [_chain(menu, rng) for _ in range(menu.layers)]


def _chain(menu: Menu, rng: Rng) -> Logic:
    first, second, third = rng.permutation(menu.layers)[:3].tolist()
    condition = _drawn(menu, rng, first, parent=False)
    if rng.random() < 0.5:
        condition = both(condition, _drawn(menu, rng, second, parent=bool(rng.random() < 0.5)))
        return Implies(condition=condition, consequence=_drawn(menu, rng, third, parent=True))
    one, other = _drawn(menu, rng, second, parent=True), _drawn(menu, rng, third, parent=False)
    return Implies(condition=condition, consequence=either(one, other))


def _drawn(menu: Menu, rng: Rng, layer: int, *, parent: bool) -> Logic:
    """One or two alternatives of a random sub-block, the parent's among them or not."""
    sub_block: SubBlock = "attention" if rng.random() < 0.5 else "ffn"
    others = [name for name in menu.part(sub_block) if name != "parent"]
    count = min(len(others), int(rng.integers(1, 3)))
    names = [others[i] for i in sorted(rng.permutation(len(others))[:count].tolist())]
    return Is(layer=layer, sub_block=sub_block, alternatives=(*(["parent"] if parent else []), *names))


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        one_width, groups_of_four, some_tied, interleaved, mirrored, paired_attention, frozen_ends,
        dropped_run, one_run, short_gaps, full_windows, every_third, alternating,
        narrowing, fewer_heads, width_steps, width_hill, two_widths, few_sizes, exact_counts,
        linear_or_noop, chains,
    )
}  # fmt: skip
