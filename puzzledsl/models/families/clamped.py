"""A dense FFN with gpt-oss's activation, in place of a mixture of experts: transformers has no class for it.

Imports nothing of this package: its source is copied into checkpoints of children.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ClampedMLP(nn.Module):
    """Gated FFN with biases, `(up + 1) * gate * sigmoid(alpha * gate)` of clamped gate and up. Returns a tuple, as GptOssMLP."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.alpha, self.limit = config.swiglu_alpha, config.swiglu_limit
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, None]:
        """Map [B, S, H] to [B, S, H]."""
        gate = self.gate_proj(hidden_states).clamp(max=self.limit)
        up = self.up_proj(hidden_states).clamp(min=-self.limit, max=self.limit)
        return self.down_proj((up + 1) * gate * torch.sigmoid(gate * self.alpha)), None
