"""A child as text: one glyph a layer. Alternatives of a sub-block have different glyphs, so that no colour is needed.

Fuller glyphs keep more of the parent's sub-block: `█` is the parent's own, `▇` to `▁` what keeps less and less, `╱` one matrix,
`·` nothing. Where there are more alternatives than glyphs, letters follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import ascii_letters
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puzzledsl.alternatives.alternative import SubBlock
    from puzzledsl.ir.nodes import Program
    from puzzledsl.ir.tables import SearchResult

OF_LOOK = {"parent": "█", "linear": "╱", "noop": "·"}
REDUCED = "▇▆▅▄▃▂▁"
ROW, GROUP = 40, 10
"""Layers of a row, and of a group in it."""


def glyphs(found: Iterable[tuple[str, str, float]]) -> dict[str, str]:
    """Return the glyph of each alternative of one sub-block, given its name, its look and the share that it keeps."""
    known: dict[str, tuple[str, float]] = {}
    for name, look, kept in found:
        known[name] = look, max(kept, known.get(name, (look, kept))[1])
    chosen: dict[str, str] = {}
    rest: list[str] = []
    for name in sorted(known, key=lambda name: (len(name), name)):
        glyph = OF_LOOK.get(known[name][0])
        if glyph is None or glyph in chosen.values():
            rest.append(name)
        else:
            chosen[name] = glyph
    rest.sort(key=lambda name: (-known[name][1], name))
    last = len(REDUCED) - 1
    signs = REDUCED + ascii_letters
    if 1 < len(rest) <= last:
        signs = "".join(REDUCED[round(i * last / (len(rest) - 1))] for i in range(len(rest)))
    return chosen | {name: signs[i] if i < len(signs) else "?" for i, name in enumerate(rest)}


def glyphs_of(program: Program, result: SearchResult, sub_block: SubBlock) -> dict[str, str]:
    """Return the glyphs of the alternatives that a solved search's space has for a sub-block."""
    from puzzledsl.alternatives.parent import PARENTS

    space = program.spaces[program.searches[result.search].space]
    parent, found = PARENTS[sub_block], []
    for own, choice in zip(program.parents[space.parent].shape.each, space.layers, strict=True):
        whole = parent.params(own)
        for alternative in (parent, *getattr(choice, sub_block)):
            kept = alternative.params(own) / whole if whole else 0.0
            found.append((alternative.name, alternative.look, kept))
    return glyphs(dict.fromkeys(found))


def rows(names: list[str], signs: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield rows of layers: which they are, and their glyphs in groups of ten."""
    for first in range(0, len(names), ROW):
        here = names[first : first + ROW]
        text = "".join(signs.get(name, "?") for name in here)
        groups = [text[i : i + GROUP] for i in range(0, len(text), GROUP)]
        yield f"layers {first}..{first + len(here) - 1}", " ".join(groups)
