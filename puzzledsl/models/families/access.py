"""Addresses into a model: layers, sub-blocks, norms, and the shape a config describes."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, assert_never, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families.config import BadConfig
from puzzledsl.families.family import Family, Names
from puzzledsl.families.registry import FAMILIES, shape_of_config
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.families.errors import UnknownFamily, UnreadableCheckpoint

_ANY = Names()  # names inside a layer are the same in every family so far; a test says so


def family_of(model: PreTrainedModel | PreTrainedConfig) -> Family:
    """The family's table. Raises DiagnosticError (UnknownFamily)."""
    config = model.config if isinstance(model, PreTrainedModel) else model
    model_type = getattr(config, "base_model_type", None) or config.model_type
    if model_type not in FAMILIES:
        raise DiagnosticError(UnknownFamily(None, model_type=model_type, supported=", ".join(FAMILIES)))
    return FAMILIES[model_type]


def shape_of(config: PreTrainedConfig) -> Shape:
    """The architecture a config describes. Raises DiagnosticError (UnknownFamily, UnreadableCheckpoint)."""
    family = family_of(config)
    try:
        return shape_of_config(config.to_dict() | {"model_type": family.model_type})
    except BadConfig as error:
        path = str(getattr(config, "_name_or_path", "")) or family.model_type
        raise DiagnosticError(
            UnreadableCheckpoint(None, path=path, reason=f"config.json: {error}")
        ) from error


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers."""
    return cast(nn.ModuleList, attrgetter(family_of(model).layers)(model))


def attention(layer: nn.Module) -> nn.Module:
    """The attention module of a layer (a child's may be a linear one or a no-op)."""
    return cast(nn.Module, getattr(layer, _ANY.attention))


def ffn(layer: nn.Module) -> nn.Module:
    """The feed-forward module of a layer."""
    return cast(nn.Module, getattr(layer, _ANY.ffn))


def sub_block_name(sub_block: SubBlock) -> str:
    """The attribute of a layer that holds a sub-block: also the prefix of its weights inside the layer."""
    match sub_block:
        case "attention":
            return _ANY.attention
        case "ffn":
            return _ANY.ffn
        case _:
            assert_never(sub_block)


def norm_name(sub_block: SubBlock) -> str:
    """The attribute of a layer that holds the norm in front of a sub-block."""
    match sub_block:
        case "attention":
            return _ANY.attention_norms[0]
        case "ffn":
            return _ANY.ffn_norms[0]
        case _:
            assert_never(sub_block)


def sub_block_of(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """The module of a layer's sub-block."""
    return cast(nn.Module, getattr(layer, sub_block_name(sub_block)))


def norm_of(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """The norm whose output is the sub-block's input."""
    return cast(nn.Module, getattr(layer, norm_name(sub_block)))


def output_embedding(model: PreTrainedModel) -> Tensor:
    """The head's weight [V, H]; no supported family has a bias there."""
    embeddings: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return cast(Tensor, embeddings.weight)
