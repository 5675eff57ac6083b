"""Private names of transformers and of PyTorch that the package uses, each with the reason why no public name serves.

Shape legend: N output features, K input features.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel


def attention_of(config: PreTrainedConfig) -> str | None:
    """Return the name of a config's attention implementation; None if none is set. Public names set it, and none reads it."""
    found: str | None = config._attn_implementation
    return found


def supports_sdpa(model_class: type[Any]) -> bool:
    """Return True if a model class supports SDPA attention. Publicly, only a ValueError tells, and it has other causes, too."""
    return bool(model_class._supports_sdpa)


def from_config(
    model_class: type[Any], config: PreTrainedConfig, attention: str, dtype: torch.dtype
) -> PreTrainedModel:
    """Return a model of any class; the public `AutoModelForCausalLM.from_config` makes those of registered classes alone."""
    model: PreTrainedModel = model_class._from_config(config, attn_implementation=attention, dtype=dtype)
    return model


def init_weights(model: Any, module: nn.Module) -> None:
    """Give one module its initial values. The public `init_weights` starts the whole model anew."""
    model._init_weights(module)


def decoded_floats(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json's content with its special floats as numbers, which `from_dict` leaves as texts."""
    return dict(PreTrainedConfig._decode_special_floats(content))


def apply_gate(experts: Any, joined: Tensor) -> Tensor:
    """Apply a mixture's gated activation to its joined gate and up outputs. Families differ; publicly it is inside `forward`."""
    activated: Tensor = experts._apply_gate(joined)
    return activated


M = TypeVar("M", bound=nn.Module)


def with_own_modules(module: M) -> M:
    """Return a copy of a module on the same weights; submodules and forward pre-hooks put into it do not change the original.

    `copy.copy` alone shares the dictionaries that hold submodules and hooks, and `copy.deepcopy` copies the weights.
    """
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._forward_pre_hooks = copy.copy(module._forward_pre_hooks)
    copied._forward_pre_hooks_with_kwargs = copy.copy(module._forward_pre_hooks_with_kwargs)
    return copied


def linear_pointwise(
    x: Tensor, weight_NK: Tensor, bias_N: Tensor | None, then: str, factor: Tensor | None = None
) -> Tensor:
    """Return x @ weight' + bias by oneDNN, with `then` in the same pass: `none`, `swish` (SiLU), or `mul` (times `factor`)."""
    operator: Any = torch.ops.mkldnn._linear_pointwise
    product: Tensor = (
        operator(x, weight_NK, bias_N, then, [], "")
        if factor is None
        else operator.binary(x, factor, weight_NK, bias_N, then)
    )
    return product


def packed_weight(weight_NK: Tensor, rows: int) -> Tensor:
    """Return a weight in oneDNN's own layout for products of `rows` rows; `F.linear` reorders the weight at each call."""
    operator: Callable[..., Tensor] = torch.ops.mkldnn._reorder_linear_weight
    return operator(weight_NK.detach(), rows)
