# mypy: ignore-errors
"""Llama with other sub-blocks in some layers: fewer key/value heads, narrower FFNs, linear ones, or none.

The forward pass is transformers' own; modules are replaced when the model is made.
"""

import copy

from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaForCausalLM, LlamaMLP

from .configuration_decilm import DeciLMConfig
from .window import LimitWindow

ATTENTION_NORMS = ()  # attributes of a layer
FFN_NORMS = ()
DENSE = LlamaMLP
FFN_PAIR = False  # an FFN answers with a pair
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


def drop(layer, name, norms, module):
    setattr(layer, name, module)
    for norm in norms:
        setattr(layer, norm, nn.Identity())


class DeciLMForCausalLM(LlamaForCausalLM):
    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        slots = {kind: [i for i, k in enumerate(kinds) if k == kind] for kind in kinds}  # of the KV cache
        for index, (block, kind) in enumerate(zip(config.block_configs, kinds, strict=True)):
            layer, attention, ffn, own = (
                self.model.layers[index],
                block.attention,
                block.ffn,
                copy.deepcopy(config),
            )
            if attention.no_op:
                drop(layer, "self_attn", ATTENTION_NORMS, SubBlock(True))
            elif attention.replace_with_linear:
                layer.self_attn = SubBlock(True, config.hidden_size)
            elif "module" in attention:
                layer.self_attn = MODULES[attention.module](config, **attention.arguments)
            else:
                own.num_key_value_heads = config.num_attention_heads // attention.n_heads_in_group
                layer.self_attn = LlamaAttention(own, index)
                layer.self_attn.config = config  # the copy does not know the attention implementation
                if attention.window_length is not None:
                    hook = LimitWindow(attention.window_length, attention.num_sink_tokens or 0)
                    layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)
            if hasattr(
                layer.self_attn, "layer_idx"
            ):  # it fills a slot of the KV cache; slot 0 must be filled
                layer.self_attn.layer_idx = slots[kind].pop(0)
            if ffn.no_op:
                drop(layer, "mlp", FFN_NORMS, SubBlock(FFN_PAIR))
            elif ffn.replace_with_linear:
                layer.mlp = SubBlock(FFN_PAIR, config.hidden_size)
            elif "module" in ffn:
                layer.mlp = MODULES[ffn.module](config, **ffn.arguments)
            elif ffn.get("num_experts"):
                own.num_experts, own.moe_intermediate_size = ffn.num_experts, ffn.moe_intermediate_size
                own.num_experts_per_tok = ffn.num_experts_per_tok
                layer.mlp = MIXTURE(own)
                layer.mlp.experts.config = config
            else:
                own.intermediate_size = ffn.intermediate_size
                layer.mlp = DENSE(own)
