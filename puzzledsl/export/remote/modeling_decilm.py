# mypy: ignore-errors
"""Llama with other sub-blocks in some layers: fewer key/value heads, narrower FFNs, linear ones, or none.

The forward pass is transformers' own; modules are replaced when the model is made.
"""

import copy

import torch
from torch import nn
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaForCausalLM,
    LlamaMLP,
)

from .configuration_decilm import DeciLMConfig


class Linear(nn.Module):
    def __init__(self, size, pair):
        super().__init__()
        self.linear, self.pair = nn.Linear(size, size, bias=False), pair

    def forward(self, hidden_states, *args, **kwargs):
        out = self.linear(hidden_states)
        return (out, None) if self.pair else out


class NoOp(nn.Module):
    def __init__(self, pair):
        super().__init__()
        self.pair = pair

    def forward(self, hidden_states, *args, **kwargs):
        out = hidden_states.new_zeros(()).expand_as(hidden_states)
        return (out, None) if self.pair else out


def window_hook(window):
    """Each query sees itself and the window - 1 tokens before it, within the mask it was given."""

    def hook(module, args, kwargs):
        hidden, mask = kwargs["hidden_states"], kwargs.get("attention_mask")
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        past, keys = 0, hidden.shape[1]
        if cache is not None:
            past = cache.get_seq_length(module.layer_idx)
            keys = cache.get_mask_sizes(hidden.shape[1], module.layer_idx)[0]
        query = torch.arange(hidden.shape[1], device=hidden.device)[:, None] + past
        key = torch.arange(keys, device=hidden.device)[None]
        seen = ((key <= query) & (key > query - window))[None, None]
        if mask is not None:
            seen = (
                mask & seen
                if mask.dtype == torch.bool
                else mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
            )
        return args, {**kwargs, "attention_mask": seen}

    return hook


class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        slots = {}  # kind of attention -> cache slots in order: slot 0 must be one that is filled
        kinds = (
            getattr(config, "layer_types", None)
            or ["full_attention"] * config.num_hidden_layers
        )
        for slot, kind in enumerate(kinds):
            slots.setdefault(kind, []).append(slot)
        for layer, block, kind in zip(self.model.layers, config.block_configs, kinds):
            attention, ffn, own = block.attention, block.ffn, copy.deepcopy(config)
            if attention.no_op:
                layer.self_attn, layer.input_layernorm = NoOp(True), nn.Identity()
            elif attention.replace_with_linear:
                layer.self_attn = Linear(config.hidden_size, True)
            else:
                own.num_key_value_heads = (
                    config.num_attention_heads // attention.n_heads_in_group
                )
                layer.self_attn = LlamaAttention(own, slots[kind].pop(0))
                layer.self_attn.config = (
                    config  # the copy does not know the attention implementation
                )
                if attention.window_length is not None:
                    layer.self_attn.register_forward_pre_hook(
                        window_hook(attention.window_length), with_kwargs=True
                    )
            if ffn.no_op:
                layer.mlp, layer.post_attention_layernorm = NoOp(False), nn.Identity()
            elif ffn.replace_with_linear:
                layer.mlp = Linear(config.hidden_size, False)
            else:
                own.intermediate_size = ffn.intermediate_size
                layer.mlp = LlamaMLP(own)
