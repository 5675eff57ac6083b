"""SiLU-gated FFNs with the activation and the product fused into the matrix products (`products.gated`), without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers.activations import SiLUActivation

from puzzledsl.models.kernels.products import PackedWeights, gated, linear

_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@contextmanager
def fused_ffns(ffns: Iterable[nn.Module], packed: PackedWeights) -> Iterator[None]:
    """Inside the context, run the SiLU-gated ones of `ffns` fused, with the weights of `packed`. Other FFNs are unchanged."""
    changed = [ffn for ffn in ffns if _is_gated_by_silu(ffn)]
    for ffn in changed:
        held: Any = ffn
        held.forward = partial(_forward, ffn, packed)
    try:
        yield
    finally:
        for ffn in changed:
            del ffn.__dict__["forward"]  # uncovers the forward of the class


def _forward(ffn: Any, packed: PackedWeights, x: Tensor) -> Tensor:
    down: nn.Linear = ffn.down_proj
    return linear(gated(x, ffn.gate_proj, ffn.up_proj, packed), down.weight, down.bias, packed)


def _is_gated_by_silu(ffn: nn.Module) -> bool:
    children = dict(ffn.named_children())
    return (
        set(children) == {*_PROJECTIONS, "act_fn"}
        and all(type(children[name]) is nn.Linear for name in _PROJECTIONS)
        and isinstance(children["act_fn"], nn.SiLU | SiLUActivation)
    )
