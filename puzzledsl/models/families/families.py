"""One table a model family: where its modules are and which classes they have. Data only.

A family is added by adding an entry; nothing else in the torch half names a family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3


@dataclass(frozen=True, slots=True)
class Family:
    """Module paths (dotted, from the causal language model or from a layer) and classes of one family."""

    model_type: str
    causal_lm: type[Any]
    attention_class: type[nn.Module]
    ffn_class: type[nn.Module]
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    attention: str = "self_attn"
    ffn: str = "mlp"
    attention_norm: str = "input_layernorm"
    ffn_norm: str = "post_attention_layernorm"
    # biases: always, never, or as the named flag of config.json says
    qkv_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: bool = False
    sliding_window: bool = (
        False  # whether config.json's `sliding_window`, where it is a number, is every layer's
    )


FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "llama",
            modeling_llama.LlamaForCausalLM,
            modeling_llama.LlamaAttention,
            modeling_llama.LlamaMLP,
            qkv_bias="attention_bias",
            output_bias="attention_bias",
            mlp_bias="mlp_bias",
        ),
        Family(
            "mistral",
            modeling_mistral.MistralForCausalLM,
            modeling_mistral.MistralAttention,
            modeling_mistral.MistralMLP,
            sliding_window=True,
        ),
        Family(
            "qwen2",
            modeling_qwen2.Qwen2ForCausalLM,
            modeling_qwen2.Qwen2Attention,
            modeling_qwen2.Qwen2MLP,
            qkv_bias=True,
        ),
        Family(
            "qwen3",
            modeling_qwen3.Qwen3ForCausalLM,
            modeling_qwen3.Qwen3Attention,
            modeling_qwen3.Qwen3MLP,
            qkv_bias="attention_bias",
            output_bias="attention_bias",
            qk_norm=True,
        ),
    )
}
