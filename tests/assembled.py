"""A child assembled in memory, sub-block by sub-block: the oracle of checkpoints, which are written without a model."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import Pieces, chosen_in
from puzzledsl.families.block_configs import on_base, to_block_configs
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.errors import NoSuchLayer
from puzzledsl.models.families import access
from puzzledsl.models.families.build import number_cache_slots, put
from puzzledsl.models.precision.gptq import rounded_end


def assemble(model: PreTrainedModel, definition: ModelDefinition, pieces: Pieces) -> PreTrainedModel:
    """Turn a loaded parent into the child, in place, and return it, in evaluation mode and without gradients.

    `config.block_configs` describes the child: `export` writes it and `load_child` reads it.
    Raises DiagnosticError: NoSuchLayer, PieceDoesNotFit, CannotRealise.
    """
    shape = access.shape_of(model.config)
    if len(definition.layers) != shape.layers:
        raise DiagnosticError(
            NoSuchLayer(None, name=definition.name, got=len(definition.layers), expected=shape.layers)
        )
    config: Any = model.config
    each = zip(definition.layers, shape.each, strict=True)
    layers: Any = [(on_base(layer.attention, own), on_base(layer.ffn, own)) for layer, own in each]
    config.block_configs = to_block_configs(layers, shape.base or shape)
    for layer_idx, layer in enumerate(definition.layers):
        for chosen in chosen_in(layer_idx, layer):
            if chosen.alternative.is_parent:  # a coupled piece stores its own half only
                continue
            module = build_alternative(model, layer_idx, chosen.alternative)
            if chosen.alternative.keeps_weights:
                own = access.sub_block_of(access.layers(model)[layer_idx], chosen.sub_block)
                module.load_state_dict(own.state_dict())
            elif not chosen.alternative.removes or chosen.piece is not None:
                chosen.load(module, pieces)
            put(model, layer_idx, chosen.sub_block, module.requires_grad_(False))
    number_cache_slots(model)
    head = None if definition.head_piece is None else pieces(definition.head_piece)["weight"]
    _put_ends(model, definition.ends.types, head)
    return model


def _put_ends(model: PreTrainedModel, types: Mapping[EndName, PrecisionName], head_VH: Tensor | None) -> None:
    """Put embedding and head in their types; types that differ untie them. `head_VH`: the head's piece, where it has one."""
    if not types:
        return
    config: Any = model.config
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    whole: dict[EndName, Tensor] = {"embedding": embedding.weight, "head": head.weight}
    given: dict[EndName, Tensor] = {} if head_VH is None else {"head": head_VH}
    rounded = {
        site: (given[site] if site in given else rounded_end(weight.detach(), types[site])).to(weight)
        for site, weight in whole.items()
        if site in types
    }
    tied = config.tie_word_embeddings and types.get("embedding") == types.get("head")
    config.tie_word_embeddings, config.end_dtypes = tied, dict(types)
    for site, module in (("embedding", embedding), ("head", head)):
        if site in rounded:
            module.weight = nn.Parameter(rounded[site], requires_grad=False)
    if tied:
        head.weight = embedding.weight
