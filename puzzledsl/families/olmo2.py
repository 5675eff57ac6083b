"""OLMo 2: norms stand behind the sub-blocks, and queries and keys are normalised over all heads."""

from __future__ import annotations

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import BIASES, Family, Names, Part, dense_fields


def _read(config: Config) -> Shape:
    bias = config.flag("attention_bias")
    return Shape(
        family="olmo2",
        tied=config.flag("tie_word_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        qk_norm=True,
        qk_norm_whole=True,
        **dense_fields(config, not_null=("head_dim",)),
    )


NAMES = Names(
    attention=Part("self_attn", behind="post_attention_layernorm", pair=True),
    ffn=Part("mlp", behind="post_feedforward_layernorm"),
)
FAMILY = Family(
    "olmo2",
    "Olmo2",
    _read,
    literal={"qk_norm": True, "qk_norm_whole": True},
    takes=("tied", *BIASES),
    names=lambda shape: NAMES,
)
