"""Calibration statistics of one layer of the parent, which initial weights are fitted to.

Shapes: B sequences, S positions, H hidden, F intermediate width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from puzzledsl.models.least_squares.grams import Gram


@dataclass(frozen=True)
class Call:
    """One batch in one layer (B, S, H): the layer's input, and the inputs and outputs of its two sub-blocks' modules."""

    entering: Tensor
    hidden_states: Tensor  # normed, as attention read them
    kwargs: dict[str, Any]  # attention's other arguments
    output: Tensor  # of attention
    ffn_input: Tensor
    ffn_output: Tensor


@dataclass
class LayerStatistics:
    """Calibration statistics of one layer. Grams are float64."""

    attention: Gram  # normed input -> attention output
    ffn: Gram  # normed input -> FFN output
    activations: Gram  # what down_proj reads, by itself
    activation_abs: Tensor  # sum over tokens of |activation| (F,), float64
    calls: list[Call] = field(default_factory=list)
    channel_order: Tensor | None = None  # FFN channels, first to go first; made once, serves every width

    @property
    def tokens(self) -> int:
        """Number of calibration tokens counted."""
        return self.attention.tokens
