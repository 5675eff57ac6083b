"""The largest batch that fits, by trying every one: the verifier's own count, which shares no formula with the costs.

The cache of one layer is `ceil(batch * tokens * 2 * kv_heads a GPU * head_dim * bytes of a number)`, where a sequence's tokens
are as many as its window lets it keep, in whole pages. Weights are those that the cost table has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil

from puzzledsl.cost.dtypes import DTYPE_BYTES
from puzzledsl.ir.alternatives import GqaAttention, ParentAttention, name_of
from puzzledsl.ir.nodes import Program, RooflineHardware, Scenario, Shape
from puzzledsl.ir.tables import CostTable, LayerAssignment

MANY = 1 << 14  # batches that are all tried


def largest_batch(
    program: Program, table: CostTable, scenario: str, layers: Sequence[LayerAssignment], near: int
) -> int:
    """The largest batch of an `auto` scenario on a profile at which the cache of a model fits; 0 where it fits at none. `near`:
    the batch that is said to be it."""
    here, space = program.scenarios[scenario], program.spaces[table.space]
    hardware = program.hardware[here.hardware].spec
    assert isinstance(hardware, RooflineHardware), "only a profile takes any batch"
    shape = program.parents[space.parent].shape
    known = {name_of(a): a for choice in space.layers for a in choice.attention}
    attentions = Counter(choice.attention for choice in layers)
    caches = [
        (number, _bytes_of_a_sequence(hardware, shape, here, known.get(name, ParentAttention())))
        for name, number in attentions.items()
    ]
    costs = table.scenarios[scenario][0]
    weights = costs.fixed.weights_bytes + sum(
        costs.attention[i][c.attention].weights_bytes + costs.ffn[i][c.ffn].weights_bytes
        for i, c in enumerate(layers)
    )
    room = (hardware.memory_bytes - hardware.reserve_bytes - weights) * hardware.kv_fraction

    def fits(batch: int) -> bool:
        return sum(number * -(-batch * one.numerator // one.denominator) for number, one in caches) <= room

    return max(filter(fits, _tried(table.auto[scenario], near)), default=0)


def _tried(most: int, near: int) -> Iterable[int]:
    """Every batch; where there are too many, those near the answer and every power of two."""
    if most <= MANY:
        return range(1, most + 1)
    around = range(max(1, near - MANY // 2), min(most, near + MANY // 2) + 1)
    return (*around, *(1 << power for power in range(most.bit_length())), most)


def _bytes_of_a_sequence(
    hardware: RooflineHardware, shape: Shape, scenario: Scenario, attention: object
) -> Fraction:
    """One sequence's keys and values in one layer on one GPU; 0 for what keeps none."""
    window = shape.window
    match attention:
        case ParentAttention():
            heads = shape.kv_heads
        case GqaAttention(kv_heads=heads):
            own = attention.window
            window = own if window is None else window if own is None else min(own, window)
        case _:
            return Fraction(0)
    grown = scenario.output if hardware.kv_policy == "full" else ceil(Fraction(scenario.output, 2))
    length = scenario.prompt + grown
    kept = length if window is None else min(length, window)
    tokens = ceil(Fraction(kept, hardware.page_tokens)) * hardware.page_tokens
    numbers = 2 * ceil(Fraction(heads, hardware.gpus)) * shape.head_dim
    return tokens * numbers * DTYPE_BYTES[hardware.kv_dtype]
