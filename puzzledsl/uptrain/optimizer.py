"""AdamW, with moments in float32 or in 8 bits a number (torchao: blocks of 256 numbers share a scale, arXiv 2110.02861)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from puzzledsl.uptrain.shard import local

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
BETAS, EPSILON = (0.9, 0.95), 1e-8


def has_eight_bit() -> bool:
    """Return True if torchao, which keeps moments in 8 bits, is installed."""
    return importlib.util.find_spec("torchao") is not None


def adamw(parameters: Iterable[nn.Parameter], peak: float, *, eight_bit: bool = False) -> Optimizer:
    """Return AdamW without weight decay; `eight_bit` needs torchao."""
    if not eight_bit:
        return torch.optim.AdamW(parameters, lr=peak, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)
    from torchao.optim import AdamW8bit

    found: Optimizer = AdamW8bit(parameters, lr=peak, betas=BETAS, eps=EPSILON, weight_decay=0.0)
    return found


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # torchao compiles its step for a tensor
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def moments(optimizer: Optimizer, weight: nn.Parameter, rank: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a weight's state by name; those of 8 bits are this process's, with its rank in the name."""
    for moment in MOMENTS if weight in optimizer.state else ():
        value = optimizer.state[weight][moment]
        part: Any = local(value)
        if hasattr(part, "codes"):
            yield f"{moment}.codes{rank}", part.codes
            yield f"{moment}.scale{rank}", part.scale
        else:
            yield moment, value


def make_moments(optimizer: Optimizer, weights: Iterable[nn.Parameter]) -> None:
    """Give the state of these weights its storage, without changing a weight."""
    if isinstance(optimizer, torch.optim.AdamW):
        for weight in weights:
            optimizer.state[weight] = {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                "exp_avg": torch.zeros_like(weight.detach()),
                "exp_avg_sq": torch.zeros_like(weight.detach()),
            }
        return
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    set_rate(optimizer, 0.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
