"""Tiny children: definitions over a tiny parent, with random pieces."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PRECISIONS, is_quantised
from puzzledsl.alternatives.registry import ATTENTION, FFN, AttentionAlternative, FfnAlternative
from puzzledsl.child.checkpoint.contents import Pieces
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.precision.gptq import nearest

Choice = tuple[AttentionAlternative, FfnAlternative]
A = TypeVar("A", bound=Alternative)


def of_packages(kinds: Mapping[str, type[A]]) -> Iterator[A]:
    """One alternative of each installed package, with 7 in every field."""
    for kind in kinds.values():
        if not kind.__module__.startswith("puzzledsl."):
            yield kind.model_validate(dict.fromkeys(kind.fields(), 7))


PARENT: Choice = (ParentAttention(), ParentFfn())
ATTENTIONS: tuple[AttentionAlternative, ...] = (
    GqaAttention(kv_heads=1),
    GqaAttention(kv_heads=4),
    GqaAttention(kv_heads=2, window=5),
    GqaAttention(kv_heads=1, heads=3),
    GqaAttention(kv_heads=4, window=5, sinks=2),
    LinearAttention(),
    NoOpAttention(),
    *of_packages(ATTENTION),
)
FFNS: tuple[FfnAlternative, ...] = (MlpFfn(width=17), LinearFfn(), NoOpFfn(), *of_packages(FFN))
MIXED: tuple[Choice, ...] = (
    (NoOpAttention(), ParentFfn()),
    (GqaAttention(kv_heads=1), NoOpFfn()),
    (LinearAttention(), MlpFfn(width=20)),
    (GqaAttention(kv_heads=2, window=5), LinearFfn()),
)
"""Four layers with every kind of alternative, the first without attention."""


def define(layers: Sequence[Choice], name: str = "child") -> ModelDefinition:
    """A definition whose pieces are called `attention-0`, `ffn-0` …"""
    found = tuple(
        LayerDefinition(
            attention=attention,
            ffn=ffn,
            attention_piece=f"attention-{index}" if attention.trainable else None,
            ffn_piece=f"ffn-{index}" if ffn.trainable else None,
        )
        for index, (attention, ffn) in enumerate(layers)
    )
    return ModelDefinition(name=name, search=name, parent="tiny", layers=found)


def random_pieces(parent: PreTrainedModel, layers: Sequence[Choice]) -> Pieces:
    """Weights for the pieces of `define(layers)`: wide enough that each alternative matters, quantised ones on their grid."""

    def load(piece: str) -> Mapping[str, Tensor]:
        sub_block, _, index = piece.partition("-")
        attention, ffn = layers[int(index)]
        generator = torch.Generator().manual_seed(int(index))
        alternative: Alternative = attention if sub_block == "attention" else ffn
        weights = weights_of(build_alternative(parent, int(index), alternative))
        found = {}
        for name, weight in weights.items():
            value = torch.randn(weight.shape, generator=generator) * 0.3 + (1 if "norm" in name else 0)
            if alternative.dtype is not None and is_quantised(name, tuple(value.shape)):
                value = nearest(value, PRECISIONS[alternative.dtype])
            found[name] = value
        return found

    return load
