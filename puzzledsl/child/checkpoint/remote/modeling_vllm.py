# mypy: ignore-errors
"""A child for vLLM's Transformers backend: the layers of modeling_decilm.py, grouped around attentions."""

from torch import nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel

from .configuration_vllm import ChildConfig, has_cache
from .modeling_decilm import DeciLMForCausalLM


class Group(LlamaDecoderLayer):
    """A layer with attention, and the layers without a KV cache before and after it."""

    def forward(self, hidden_states, *args, **kwargs):
        for layer in self.before:
            hidden_states = layer(hidden_states, *args, **kwargs)
        hidden_states = super().forward(hidden_states, *args, **kwargs)
        for layer in self.after:
            hidden_states = layer(hidden_states, *args, **kwargs)
        return hidden_states


def hide_experts(mixture):
    """Rename the experts: vLLM puts mixtures of one size in place of all modules of that name."""
    mixture.bank = mixture.experts
    del mixture.experts
    mixture.__class__ = type("Mixture", (type(mixture),), {"experts": property(lambda self: self.bank)})


class ChildModel(LlamaModel):
    config_class = ChildConfig

    def __init__(self, config):
        plain = config.of_blocks()
        super().__init__(plain)
        layers = DeciLMForCausalLM(plain).model.layers
        groups, before = [], nn.ModuleList()
        mixtures = [block["ffn"] for block in config.block_configs if block["ffn"].get("num_experts")]
        sizes = {(b["num_experts"], b["num_experts_per_tok"], b["moe_intermediate_size"]) for b in mixtures}
        for layer, block in zip(layers, config.block_configs, strict=True):
            if block["ffn"].get("num_experts") and len(sizes) > 1:
                hide_experts(layer.mlp)
            if has_cache(block):
                layer.__class__ = Group
                layer.before, layer.after, before = before, nn.ModuleList(), nn.ModuleList()
                layer.self_attn.layer_idx = len(groups)
                layer.self_attn.config = config
                groups.append(layer)
            else:
                (groups[-1].after if groups else before).append(layer)
        if config._attn_implementation is None:  # outside vLLM, the copy alone knows it
            config._attn_implementation = plain._attn_implementation
        self.layers, self.config = nn.ModuleList(groups), config


class ChildForCausalLM(LlamaForCausalLM):
    config_class = ChildConfig

    def __init__(self, config):
        super().__init__(config.of_blocks())
        self.model, self.config = ChildModel(config), config
