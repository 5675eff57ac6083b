"""Largest batch that fits into memory, by trying batches: the verifier's own computation, sharing no formula with the costs.

The KV cache of one layer takes `ceil(batch * tokens * 2 * kv_heads per GPU * head_dim * bytes per number)`. The tokens of a
sequence are limited by the window and rounded up to whole pages. A Mamba2 layer or a delta net keeps, of each sequence, a
state of `heads * head_dim * state` numbers of 4 bytes and the convolution's earlier inputs. Weights are those of the cost table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.shape import StateShape
from puzzledsl.costs.dtypes import DTYPE_BYTES
from puzzledsl.ir.nodes import Program, RooflineHardware, Scenario, Shape
from puzzledsl.ir.tables import CostTable, LayerAssignment

MANY = 1 << 14  # up to this many batches, all are tried


def largest_batch(
    program: Program, table: CostTable, scenario: str, layers: Sequence[LayerAssignment], near: int
) -> int:
    """Return the largest batch of an `auto` scenario on a profile at which a model's cache fits; 0 if it fits at none.

    `near`: the batch to be verified.
    """
    here, space = program.scenarios[scenario], program.spaces[table.space]
    hardware = program.hardware[here.hardware].spec
    assert isinstance(hardware, RooflineHardware), "only a profile takes any batch"
    shape = program.parents[space.parent].shape
    known = {a.name: a for choice in space.layers for a in choice.attention}
    owns = {id(own): own for own in shape.each}
    attentions = Counter((id(own), choice.attention) for own, choice in zip(shape.each, layers, strict=True))
    caches = [
        (number, _bytes_of_a_sequence(hardware, owns[own], here, known.get(name, ParentAttention())))
        for (own, name), number in attentions.items()
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
    """Return every batch; if there are more than MANY, those near `near`, every power of two, and the largest."""
    if most <= MANY:
        return range(1, most + 1)
    around = range(max(1, near - MANY // 2), min(most, near + MANY // 2) + 1)
    return (*around, *(1 << power for power in range(most.bit_length())), most)


def _bytes_of_a_sequence(
    hardware: RooflineHardware, shape: Shape, scenario: Scenario, attention: object
) -> Fraction:
    """Return the bytes of one sequence's keys and values, or its state, in one layer on one GPU; 0 if it keeps neither."""
    window = shape.window
    match attention:
        case ParentAttention() if shape.mixer in ("linear", "none"):
            return Fraction(0)
        case ParentAttention() if shape.mixer != "attention":
            return _bytes_of_a_state(hardware, shape.state)
        case ParentAttention():
            heads = shape.kv_heads
        case GqaAttention(kv_heads=heads):
            own = attention.window
            if own is not None and window is not None:
                sinks = min(attention.sinks, shape.window_sinks)
                window = sinks + min(own - attention.sinks, window - shape.window_sinks)
            elif own is not None:
                window = own
        case _:
            return Fraction(0)
    grown = scenario.output if hardware.kv_policy == "full" else ceil(Fraction(scenario.output, 2))
    length = scenario.prompt + grown
    kept = length if window is None else min(length, window)
    tokens = ceil(Fraction(kept, hardware.page_tokens)) * hardware.page_tokens
    numbers = 2 * ceil(Fraction(heads, hardware.gpus)) * shape.head_dim
    return tokens * numbers * DTYPE_BYTES[hardware.kv_dtype]


def _bytes_of_a_state(hardware: RooflineHardware, state: StateShape | None) -> Fraction:
    """Return the bytes of one sequence's state; 0 without a mixer."""
    if state is None:
        return Fraction(0)
    heads, groups = ceil(Fraction(state.heads, hardware.gpus)), ceil(Fraction(state.groups, hardware.gpus))
    values, keys = heads * state.head_dim, groups * state.state
    residual = max(DTYPE_BYTES[hardware.activation_dtype or hardware.dtype], Fraction(2))
    return 4 * values * state.state + residual * (values + keys + keys) * (state.conv - 1)
