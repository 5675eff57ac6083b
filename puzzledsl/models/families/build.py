"""Fresh attention and FFN modules of a family in another size. The only place that constructs transformers' layer classes.

Shapes: H hidden, N query heads, K key/value heads, D head_dim, F intermediate width.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig

from puzzledsl.models.families.access import HeadsView, family_of, shape_of
from puzzledsl.models.families.slots import classes_of
from puzzledsl.models.families.window import LimitWindow


def new_attention(
    config: PreTrainedConfig,
    layer_idx: int,
    kv_heads: int,
    *,
    heads: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Attention of the config's family with `kv_heads` key/value heads, and `heads` query heads if they are others.

    Weights are allocated, not initialised.

    The module keeps the model's own `config`, so that it follows the model's attention implementation; a config copied
    for one layer would lose it, and attention would silently stop being causal.
    `window`: tokens that a query sees at most, the first `sinks` of them the sequence's first.
    """
    sizes = {"num_key_value_heads": kv_heads}
    if heads is not None:
        sizes |= {"num_attention_heads": heads, "head_dim": shape_of(config).at(layer_idx).head_dim}
    of_family = classes_of(family_of(config).model_type).attention
    module: Any = _construct(of_family, config, sizes, layer_idx, dtype, device)
    if heads is not None:
        module.config = HeadsView(config, heads)
    if window is not None:
        module.register_forward_pre_hook(LimitWindow(window, sinks), with_kwargs=True)
    return cast(nn.Module, module)


def new_ffn(
    config: PreTrainedConfig,
    width: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Gated FFN of the config's family with `width` channels; weights are allocated, not initialised."""
    return _construct(
        classes_of(family_of(config).model_type).ffn,
        config,
        {"intermediate_size": width},
        None,
        dtype,
        device,
    )


def new_mixture(
    config: PreTrainedConfig,
    experts: int,
    top_k: int,
    width: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Mixture of the config's family, not initialised. Experts keep the model's own `config`, and so its implementation."""
    family = family_of(config)
    block, names = classes_of(family.model_type).mixture, family.mixture
    assert block is not None
    sizes = {names.count: experts, "num_experts_per_tok": top_k, names.width: width}
    module: Any = _construct(block, config, sizes, None, dtype, device)
    module.experts.config = config
    return cast(nn.Module, module)


def arguments_of(module_class: type[nn.Module]) -> tuple[str, ...]:
    """Return the names of what a class is made of: its configuration, the index of its layer, or its width."""
    return tuple(inspect.signature(module_class).parameters)


def _construct(
    module_class: type[nn.Module],
    config: PreTrainedConfig,
    sizes: dict[str, int],
    layer_idx: int | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> nn.Module:
    resized = copy.deepcopy(config)
    for name, value in sizes.items():
        setattr(resized, name, value)
    known = {"config": resized, "layer_idx": layer_idx, **sizes}
    with torch.device("meta"):
        module = module_class(**{name: known[name] for name in arguments_of(module_class) if name in known})
    if dtype is not None:
        for parameter in module.parameters():  # buffers keep their own
            parameter.data = parameter.data.to(dtype)
    module.to_empty(device=device or "cpu")
    held: Any = module
    held.config = config
    return module.eval()
