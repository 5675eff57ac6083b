"""Sizes in which work is cut, by type of device: as much as a device needs for its full speed, and no more memory.

A CPU's tiles stay in its caches. A GPU's are large enough to fill it: its products are 100 times as fast, and a launch of each
takes as long.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes for one type of device."""

    group_tokens: int
    """Tokens that go through the layers together in scoring."""
    forward_tokens: int
    """Tokens of one forward pass in healing and evaluation."""
    healing_tokens: int
    """Tokens that go through a sub-block together in scoring after healing."""
    logit_positions: int
    """Positions of a tile of logits that is summed up at once."""
    logit_tokens: int
    """Tokens of the vocabulary of such a tile."""
    divergence_positions: int
    """Positions whose logits over the whole vocabulary are in memory at once."""
    training_tokens: int
    """Positions of one forward and backward pass in uptraining, where the program does not say."""
    loss_positions: int
    """Positions of a chunk of uptraining's loss: three float32 tensors of logits beside its gradients."""
    generated_tokens: int
    """Tokens of a batch that is generated together: prompts with padding, and what comes behind."""


CPU = Tiles(
    group_tokens=512,
    forward_tokens=2048,
    healing_tokens=512,
    logit_positions=512,
    logit_tokens=2048,  # 4 MiB of float32 logits
    divergence_positions=512,
    training_tokens=2048,
    loss_positions=256,
    generated_tokens=8192,
)
CUDA = Tiles(
    group_tokens=16384,
    forward_tokens=16384,
    healing_tokens=16384,
    logit_positions=4096,
    logit_tokens=16384,  # 256 MiB of float32 logits
    divergence_positions=1024,  # 0.5 GiB of float32 logits each of a vocabulary of 128k, parent and child
    training_tokens=8192,
    loss_positions=2048,  # 1 GiB each of a vocabulary of 128k
    generated_tokens=1 << 17,
)


def tiles(device_type: str) -> Tiles:
    """Return the sizes for a type of device, such as "cuda"; those of a CPU for one that is not known."""
    return CUDA if device_type == "cuda" else CPU
