"""Addresses into a model: layers, sub-blocks, norms, and the shape a config describes.

`HeadsView` is the configuration that an attention with another number of query heads reads.
"""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.families import block_configs
from puzzledsl.families.block_configs import BLOCKS, Layer
from puzzledsl.families.config import BadConfig
from puzzledsl.families.family import Family, Names, Part
from puzzledsl.families.registry import FAMILIES, child_of_config, shape_of_config
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.errors import UnknownFamily, UnreadableCheckpoint

T = TypeVar("T")
PARENT_BLOCKS = "parent_blocks"
"""Config attribute with the blocks of a parent that is itself a child. `block_configs` holds those of the child made of it."""
_NAMES = "names_of_parts"  # attribute of a layer with its parts' names, set by `layers`


def family_of(model: PreTrainedModel | PreTrainedConfig) -> Family:
    """The description of a model's family. Raises DiagnosticError (UnknownFamily)."""
    config = model.config if isinstance(model, PreTrainedModel) else model
    return family_named(getattr(config, "base_model_type", None) or config.model_type)


def family_named(model_type: object) -> Family:
    """Return the family of a `model_type`. Raises DiagnosticError (UnknownFamily)."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise DiagnosticError(UnknownFamily(None, model_type=model_type, supported=", ".join(FAMILIES)))
    return FAMILIES[model_type]


def shape_of(config: PreTrainedConfig) -> Shape:
    """Return the parent's architecture, with its blocks if it is itself a child. Raises DiagnosticError as `base_shape_of`."""
    return _read(config, lambda content: shape_of_config(content | {BLOCKS: content.get(PARENT_BLOCKS)}))


def base_shape_of(config: PreTrainedConfig) -> Shape:
    """Return a config's architecture as if it had no blocks. Raises DiagnosticError (UnknownFamily, UnreadableCheckpoint)."""
    return _read(config, shape_of_config)


def blocks_of(config: PreTrainedConfig) -> tuple[Layer, ...] | None:
    """The alternatives to the base family's layers in a child, or in a parent that is one; None for another model."""
    blocks = getattr(config, BLOCKS, None) or getattr(config, PARENT_BLOCKS, None)
    return None if blocks is None else _read(config, lambda c: child_of_config(c | {BLOCKS: blocks})[1])


def on_base(config: PreTrainedConfig, layer_idx: int, alternative: Alternative) -> Alternative:
    """Return an alternative to the parent's layer as the alternative to the base family's layer that makes the same."""
    return block_configs.on_base(alternative, shape_of(config).at(layer_idx))


def _read(config: PreTrainedConfig, read: Callable[[dict[str, Any]], T]) -> T:
    family = family_of(config)
    content = config.to_dict() | {"model_type": family.model_type, "base_model_type": family.model_type}
    content.pop(BLOCKS, None)
    try:
        return read(content)
    except BadConfig as error:
        path, reason = config.name_or_path or family.model_type, f"config.json: {error}"
        raise DiagnosticError(UnreadableCheckpoint(None, path=path, reason=reason)) from error


def names_of(shape: Shape, layer_idx: int) -> Names:
    """The names inside a layer of a model of this shape."""
    return FAMILIES[shape.family].names(shape.at(layer_idx))


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers. The first call notes in each of them what its parts are called."""
    found = cast(nn.ModuleList, attrgetter(family_of(model).layers)(model))
    if any(_NAMES not in layer.__dict__ for layer in found):
        note_names(model, shape_of(model.config))
    return found


def note_names(model: PreTrainedModel, shape: Shape) -> None:
    """Note in each layer what its parts are called in the base family, without those that `shape` does not have."""
    base = base_shape_of(model.config)
    for layer_idx, layer in enumerate(attrgetter(family_of(model).layers)(model)):
        names, own = names_of(base, layer_idx), shape.at(layer_idx)
        attention = None if own.mixer == "none" else names.attention
        ffn = None if own.ffn == "none" else names.ffn
        layer.__dict__[_NAMES] = replace(names, attention=attention, ffn=ffn)


def part_of(layer: nn.Module, sub_block: SubBlock) -> Part | None:
    """The names of a sub-block in a layer from `layers`; None if the layer has no such sub-block."""
    return cast(Names, layer.__dict__[_NAMES]).of(sub_block)


def part(layer: nn.Module, sub_block: SubBlock) -> Part:
    """The names of a sub-block that the layer has."""
    found = part_of(layer, sub_block)
    assert found is not None, f"the layer has no {sub_block}"
    return found


def absent(model: PreTrainedModel) -> frozenset[tuple[int, SubBlock]]:
    """The sub-blocks that layers of the parent do not have, as (layer, sub-block)."""
    places = ((i, layer, sub_block) for i, layer in enumerate(layers(model)) for sub_block in SUB_BLOCKS)
    return frozenset((i, sub_block) for i, layer, sub_block in places if part_of(layer, sub_block) is None)


def sub_block_of(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """The module of a layer's sub-block."""
    return cast(nn.Module, getattr(layer, part(layer, sub_block).module))


def held_by(layer: nn.Module, sub_block: SubBlock) -> dict[str, nn.Module]:
    """The modules of a layer that belong to a sub-block, by attribute: its own and its norms. Empty without the sub-block."""
    own = part_of(layer, sub_block)
    return {} if own is None else {name: getattr(layer, name) for name in (own.module, *own.norms)}


def give_back(layer: nn.Module, held: dict[str, nn.Module]) -> None:
    """Put back into a layer the modules that `held_by` returned."""
    for name, module in held.items():
        setattr(layer, name, module)


def norm_before(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """The norm whose output the sub-block's module reads; an identity if there is none."""
    name = part(layer, sub_block).before
    return nn.Identity() if name is None else cast(nn.Module, getattr(layer, name))


def norm_behind(layer: nn.Module, sub_block: SubBlock) -> nn.Module | None:
    """The norm of what the sub-block's module gives to the residual stream; None if there is none."""
    name = part(layer, sub_block).behind
    return None if name is None else cast(nn.Module, getattr(layer, name))


def entrance(layer: nn.Module, sub_block: SubBlock) -> nn.Module:
    """The module of a sub-block that reads the residual stream: the norm before it or, without one, its own."""
    own = part(layer, sub_block)
    return cast(nn.Module, getattr(layer, own.before or own.module))


def residual_factor(layer: nn.Module) -> float:
    """The factor by which a layer multiplies what its sub-blocks add to the residual stream."""
    name = cast(Names, layer.__dict__[_NAMES]).factor
    return 1.0 if name is None else float(getattr(layer, name))


def last_map(module: nn.Module, alternative: Alternative) -> tuple[str, nn.Linear | None]:
    """Name and module of a sub-block's last linear map, in whose weight its output is linear; ("", None) if it has none."""
    for name in alternative.last_maps:
        if isinstance(found := getattr(module, name, None), nn.Linear):
            return name, found
    return "", None


def read_by_head(model: PreTrainedModel, normed: Tensor) -> Tensor:
    """Divide normed final states by the family's divisor of logits, if any; the head's product with them is the logits."""
    name = family_of(model).logits_divisor
    divisor = 1 if not name else getattr(model.config, name)
    return normed if divisor == 1 else normed / divisor


def output_embedding(model: PreTrainedModel) -> Tensor:
    """The head's weight [V, H]; no supported family has a bias there."""
    embeddings: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return cast(Tensor, embeddings.weight)


class HeadsView:
    """A model's configuration with another `num_attention_heads`; all else, attention's implementation too, is the model's."""

    __slots__ = ("config", "num_attention_heads")

    def __init__(self, config: PreTrainedConfig, heads: int) -> None:
        self.config, self.num_attention_heads = config, heads

    def __getattr__(self, name: str) -> Any:
        if name in HeadsView.__slots__ or name.startswith("__"):  # a copy that has no attributes yet
            raise AttributeError(name)
        return getattr(self.config, name)
