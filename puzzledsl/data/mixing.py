"""Proportional mixing of texts by largest deficit: every prefix of the blocks has the proportions, too.

Step i takes the part that is furthest behind its share of i + 1 blocks (Tijdeman's chairman assignment, 1980).
"""

from __future__ import annotations

from collections.abc import Sequence

from puzzledsl.ir import nodes


def parts_of(data: nodes.Data) -> list[tuple[nodes.Data, int]]:
    """Return the texts of a mix with their weights; for another declaration, itself with weight 1."""
    if not isinstance(data.source, nodes.MixData):
        return [(data, 1)]
    return [
        (nodes.Data(name=part.name, source=part.source, where=data.where), part.weight)
        for part in data.source.parts
    ]


def turns(weights: Sequence[int], count: int) -> list[int]:
    """Return the part that each of `count` blocks comes from. After n blocks, every part has had its share of n to within one."""
    total = sum(weights)
    owed = [0] * len(weights)
    found = []
    for _ in range(count):
        owed = [behind + weight for behind, weight in zip(owed, weights, strict=True)]
        part = max(range(len(owed)), key=lambda i: (owed[i], -i))
        owed[part] -= total
        found.append(part)
    return found


def most_blocks(weights: Sequence[int], available: Sequence[int], limit: int) -> int:
    """Return the number of blocks that can be drawn before a part runs out, at most `limit`."""
    left = list(available)
    for number, part in enumerate(turns(weights, limit)):
        if not left[part]:
            return number
        left[part] -= 1
    return limit
