"""Build the module of an alternative, with uninitialised weights, in place of a layer's sub-block."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import (
    Alternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
    SubBlock,
    name_of,
)
from puzzledsl.models.blocks import LinearSubBlock, NoOp
from puzzledsl.models.errors import CannotRealise, HeadsDontDivide
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.build import new_attention, new_ffn


def build_alternative(
    model_or_config: PreTrainedModel | PreTrainedConfig,
    layer_idx: int,
    sub_block: SubBlock,
    alternative: Alternative,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Build a module with the call signature and outputs of the sub-block it replaces. Its weights are uninitialised.

    `dtype` and `device` default to the model's (float32 on the CPU for a config). A no-op has no weights.
    Raises DiagnosticError: CannotRealise, HeadsDontDivide.
    """
    if isinstance(model_or_config, PreTrainedModel):
        config = model_or_config.config
        dtype, device = dtype or model_or_config.dtype, device or model_or_config.device
    else:
        config = model_or_config
    dtype = dtype or torch.float32
    shape = shape_of(config)
    match alternative:
        case ParentAttention():
            return new_attention(config, layer_idx, shape.kv_heads, dtype=dtype, device=device)
        case GqaAttention(kv_heads=kv_heads, window=window, sinks=sinks):
            if kv_heads < 1 or shape.heads % kv_heads:
                raise DiagnosticError(HeadsDontDivide(None, kv_heads=kv_heads, heads=shape.heads))
            return new_attention(
                config, layer_idx, kv_heads, window=window, sinks=sinks, dtype=dtype, device=device
            )
        case ParentFfn():
            return new_ffn(config, shape.intermediate, dtype=dtype, device=device)
        case MlpFfn(width=width):
            return new_ffn(config, width, dtype=dtype, device=device)
        case MoeFfn():
            raise DiagnosticError(CannotRealise(None, alternative=name_of(alternative)))
        case LinearAttention() | LinearFfn():
            return LinearSubBlock(shape.hidden, sub_block, dtype=dtype, device=device).eval()
        case NoOpAttention() | NoOpFfn():
            return NoOp(sub_block).eval()
        case _:
            assert_never(alternative)


def last_map(sub_block: SubBlock, alternative: Alternative) -> str | None:
    """Return the name, inside the sub-block, of its last linear map (`o_proj`, `down_proj` or `linear`); None for a no-op."""
    match alternative.kind:
        case "parent" | "gqa" | "mlp" | "moe":
            return "o_proj" if sub_block == "attention" else "down_proj"
        case "linear":
            return "linear"
        case "noop":
            return None
        case _:
            assert_never(alternative.kind)
