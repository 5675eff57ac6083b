# mypy: ignore-errors
"""Llama with other sub-blocks in some layers: fewer key/value heads, narrower FFNs, linear ones, or none.

The forward pass is transformers' own; modules are replaced when the model is made.
"""

import copy

import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaForCausalLM, LlamaMLP

from .configuration_decilm import DeciLMConfig
from .rounded_cache import RoundCache
from .window import LimitWindow

PARTS = {}  # type of layer -> (attribute, norms, True if a pair comes out) of attention and of FFN; None without it
DENSE = LlamaMLP
MIXTURE = None  # class of a mixture of experts
MODULES = {}  # sub-blocks of installed packages, by their words


class SubBlock(nn.Module):
    """One matrix, or nothing (no size), in place of a sub-block. Where the sub-block answers with a pair, it does, too."""

    def __init__(self, pair, size=None):
        super().__init__()
        self.pair, self.linear = pair, nn.Linear(size, size, bias=False) if size else None

    def forward(self, hidden_states, *args, **kwargs):
        zeros = hidden_states.new_zeros(()).expand_as(hidden_states)
        out = zeros if self.linear is None else self.linear(hidden_states)
        return (out, None) if self.pair else out


class NoNorm(nn.Identity):
    """Norm of a removed sub-block; some layers ask a norm for the dtype of its weight."""

    def __init__(self, norm):
        super().__init__()
        self.__dict__["weight"] = torch.empty(0, dtype=norm.weight.dtype, device="cpu")

    def _apply(self, fn, recurse=True):
        self.__dict__["weight"] = fn(self.weight)
        return super()._apply(fn, recurse)


class HeadsView:
    """The configuration with another number of query heads; all else is the model's."""

    def __init__(self, config, heads):
        self.config, self.num_attention_heads = config, heads

    def __getattr__(self, name):
        if name == "config" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.config, name)


class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        slots = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in kinds}  # of the KV cache
        for layer, block, kind in zip(self.model.layers, config.block_configs, kinds, strict=True):
            for entry, part, make in zip(
                (block.attention, block.ffn), PARTS[kind], (attention_of, ffn_of), strict=True
            ):
                if part is None:
                    continue
                name, norms, pair = part
                if entry.no_op:
                    module = SubBlock(pair)
                    for norm in norms:
                        setattr(layer, norm, NoNorm(getattr(layer, norm)))
                elif entry.replace_with_linear:
                    module = SubBlock(pair, config.hidden_size)
                elif "module" in entry:
                    module = MODULES[entry.module](config, **entry.arguments)
                else:
                    module = make(entry, config, getattr(layer, name))
                if entry.get("kv_cache"):
                    module.register_forward_pre_hook(RoundCache(entry.kv_cache), with_kwargs=True)
                if hasattr(module, "layer_idx"):  # of the cache, whose slot 0 must be one that is filled
                    module.layer_idx = slots[kind].pop(0)
                setattr(layer, name, module)


def attention_of(entry, config, parents):
    if entry.n_heads_in_group is None:  # another mixer than attention, which stays as it is
        return parents
    own = copy.deepcopy(config)
    heads = entry.get("num_attention_heads")
    if heads:
        own.num_attention_heads, own.head_dim = heads, parents.head_dim
    own.num_key_value_heads = own.num_attention_heads // entry.n_heads_in_group
    module = LlamaAttention(own, parents.layer_idx)
    module.config = (
        HeadsView(config, heads) if heads else config
    )  # the copy lacks the attention implementation
    if entry.window_length is not None:
        limit = LimitWindow(entry.window_length, entry.num_sink_tokens or 0)
        module.register_forward_pre_hook(limit, with_kwargs=True)
    return module


def ffn_of(entry, config, parents):
    own = copy.deepcopy(config)
    if entry.get("num_experts"):
        own.num_experts, own.moe_intermediate_size = entry.num_experts, entry.moe_intermediate_size
        own.num_experts_per_tok = entry.num_experts_per_tok
        module = MIXTURE(own)
        module.experts.config = config
        return module
    own.intermediate_size = entry.intermediate_size
    return DENSE(own)
