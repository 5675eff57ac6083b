"""Weights of a sub-block: one description, from which shapes, parameters, bytes and FLOP follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weight:
    """One stored tensor. Tensor parallelism divides dimension `split` (None: every GPU has all of it).

    `unit` entries of that dimension stay together: the channels of a head.
    """

    shape: tuple[int, ...]
    split: int | None = None
    unit: int = 1
    of_expert: bool = False

    def count(self, gpus: int) -> int:
        """Return the number of entries on the most loaded of `gpus`."""
        if self.split is None:
            return math.prod(self.shape)
        dim = self.shape[self.split]
        return math.prod(self.shape) // dim * split(dim // self.unit, gpus) * self.unit


Weights = Mapping[str, Weight]
Shapes = dict[str, tuple[int, ...]]
"""Weight name -> shape."""


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a sub-block, or of the part that no layer changes, on one of `t` GPUs.

    `matrices` are stored in the hardware's weight dtype, `vectors` (norms, biases) unquantised. `active` counts the
    matrix parameters used in one token's forward pass: fewer than `matrices` only for a mixture of experts.
    """

    matrices: int
    vectors: int
    active: int

    @property
    def params(self) -> int:
        """The total."""
        return self.matrices + self.vectors


def size_of_weights(weights: Weights, hidden: int, experts: tuple[int, int], gpus: int) -> Size:
    """Return the size of a sub-block, with the norm before it; `experts`: their number, and those of one token."""
    if not weights:
        return Size(0, 0, 0)
    matrices = expert = 0
    vectors = hidden
    for weight in weights.values():
        count = weight.count(gpus)
        if len(weight.shape) == 1:
            vectors += count
        else:
            matrices += count
            expert += count * weight.of_expert
    number, active = experts
    return Size(matrices, vectors, matrices - expert + expert * active // number)


def split(count: int, gpus: int) -> int:
    """Return the number of heads, channels or rows on the most loaded of `gpus`."""
    return -(-count // gpus)
