"""Calibration statistics of one layer of the parent, which initial weights are fitted to.

Shapes: F intermediate width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from puzzledsl.models.layer_trace import TracedBatch
from puzzledsl.models.least_squares.grams import Gram


@dataclass
class LayerStatistics:
    """Calibration statistics of one layer. Grams are float64."""

    attention: Gram  # normed input -> attention output
    ffn: Gram  # normed input -> FFN output
    activations: Gram  # what down_proj reads, by itself
    activation_abs: Tensor  # sum over tokens of |activation| (F,), float64
    calls: list[TracedBatch] = field(default_factory=list)
    expert_orders: list[list[int]] | None = None  # of a mixture, first to go first; serve every number
    channel_order: Tensor | None = None  # FFN channels, first to go first; made once, serves every width

    @property
    def tokens(self) -> int:
        """Number of calibration tokens counted."""
        return self.attention.tokens
