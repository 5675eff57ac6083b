"""Load a child as a model, running none of its code; or open its files: config.json, layers, and weights, read when needed.

Every exporter starts here. A child comes from an exported directory, or directly from a parent and library pieces
(`from_definition`), so that a large child needs no memory for a whole model; its files are written one tensor at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.alternative import ENDS, PREFIXES, SUB_BLOCKS, Alternative, EndName, SubBlock
from puzzledsl.alternatives.parent import END_DTYPES, ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PrecisionName, is_quantised
from puzzledsl.base.diagnostics import Args, DiagnosticError
from puzzledsl.families.block_configs import (
    Layer,
    base_content,
    from_block_configs,
    is_child,
    on_base,
    to_block_configs,
)
from puzzledsl.families.family import Family
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.alternatives.realisation import build_alternative, with_cache
from puzzledsl.models.errors import NoSuchLayer, PieceDoesNotFit
from puzzledsl.models.families import access, load
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.families.stored import select
from puzzledsl.models.families.tensors import INDEX, LazyTensor, file_header
from puzzledsl.models.precision.gptq import rounded_end
from puzzledsl.models.transformers_private import with_own_modules


def load_child(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load the child in evaluation mode, without gradients. Raises DiagnosticError as `load_parent` does."""
    return load.load_parent(directory, child_config(directory), dtype=dtype, device=device)


def load_checkpoint(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """Load a child if config.json has `block_configs`, else a parent. Raises DiagnosticError as either loader does."""
    loader = load_child if is_child(load.read_config_json(directory)) else load.load_parent
    return loader(directory, dtype=dtype, device=device)


def child_config(directory: Path) -> PreTrainedConfig:
    """Return the base family's config with `block_configs` added. Raises DiagnosticError (NotAChild)."""
    return load.config_of_child(directory, load.read_config_json(directory))


Pieces = Callable[[str], Mapping[str, Tensor]]
"""Look up a piece's weights by job id. Names are relative to the sub-block (`q_proj.weight`, `linear.weight`, …); those of a
coupled piece start with `self_attn.` or `mlp.`."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sub-block of a child, with the id of the piece that has its weights; None without one."""

    layer_idx: int
    sub_block: SubBlock
    alternative: Alternative
    piece: str | None

    def module(
        self, model: PreTrainedModel, layer: nn.Module, pieces: Pieces
    ) -> tuple[nn.Module, Mapping[str, Tensor]]:
        """Return the sub-block's module for the parent's `layer`, and its piece's weights; {} for the parent's own or a no-op.

        Raises DiagnosticError: PieceDoesNotFit, and those of `build_alternative`.
        """
        if self.alternative.keeps_weights:
            own = with_own_modules(access.sub_block_of(layer, self.sub_block))
            return with_cache(own, self.alternative.cache), {}
        made = build_alternative(model, self.layer_idx, self.alternative).requires_grad_(False)
        return made, {} if self.alternative.removes else self.load(made, pieces)

    def load(self, module: nn.Module, pieces: Pieces) -> Mapping[str, Tensor]:
        """Copy the piece's weights into the module, and return them. Raises DiagnosticError (PieceDoesNotFit)."""
        wanted = {name: tuple(weight.shape) for name, weight in weights_of(module).items()}
        weights = self.weights(pieces, wanted)
        load_weights_into(module, weights)
        return weights

    def weights(self, pieces: Pieces, wanted: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
        """Return the piece's weights for the sub-block, without the prefix of a coupled piece.

        Raises DiagnosticError (PieceDoesNotFit) if there is no piece, or if names and shapes are not exactly those in `wanted`.
        """
        if self.piece is None:
            raise self.misfit("the definition names no piece")
        weights, prefixes = pieces(self.piece), {name: f"{prefix}." for name, prefix in PREFIXES.items()}
        if any(key.startswith(tuple(prefixes.values())) for key in weights):
            own = prefixes[self.sub_block]
            weights = {key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)}
        if odd := sorted(set(weights) ^ set(wanted)):
            raise self.misfit(f"unlike weights {', '.join(odd[:4])}")
        for key, value in weights.items():
            if tuple(value.shape) != wanted[key]:
                raise self.misfit(f"{key} is {tuple(value.shape)}, not {tuple(wanted[key])}")
        return weights

    def misfit(self, reason: str) -> DiagnosticError:
        """Return the error for a piece that does not fit."""
        where: Args = {
            "layer": self.layer_idx,
            "sub_block": self.sub_block,
            "alternative": self.alternative.name,
        }
        return DiagnosticError(PieceDoesNotFit(None, piece=self.piece or "(none)", reason=reason, **where))


def chosen_in(layer_idx: int, layer: LayerDefinition) -> tuple[Chosen, Chosen]:
    """Return both sub-blocks of a child's layer. Both name a coupled piece, though it stores nothing for a parent's half."""
    return (
        Chosen(layer_idx, "attention", layer.attention, layer.block_piece or layer.attention_piece),
        Chosen(layer_idx, "ffn", layer.ffn, layer.block_piece or layer.ffn_piece),
    )


SHARD_BYTES = 5_000_000_000
ALIGNMENT = 8  # of the first tensor, as the format asks
STACK_ALIGNMENT = 64
"""Alignment, in bytes, of a file with stacked matrices: transformers uses these in place; unaligned ones give other sums."""


def write_shards(
    weights: Mapping[str, LazyTensor], directory: Path, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write `model.safetensors`, or `model-00001-of-0000N.safetensors` … and the index, in order of `weights`.

    A tensor is never split. A file holds at most `shard_bytes` of tensors, or one larger tensor. Returns the files' paths.
    """
    groups = _groups(weights, shard_bytes)
    names = ["model.safetensors"]
    if len(groups) > 1:
        names = [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        write_safetensors({key: weights[key] for key in group}, directory / name)
    if len(groups) > 1:
        where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
        total = sum(weight.nbytes for weight in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [directory / name for name in names]


def _groups(weights: Mapping[str, LazyTensor], shard_bytes: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    room = shard_bytes
    for name, weight in weights.items():
        if groups[-1] and weight.nbytes > room:
            groups.append([])
            room = shard_bytes
        groups[-1].append(name)
        room -= weight.nbytes
    return groups


def write_safetensors(weights: Mapping[str, LazyTensor], path: Path) -> None:
    """Write one safetensors file, whose bytes depend only on the tensors."""
    stacked = any(len(weight.shape) > 2 for weight in weights.values())
    with path.open("wb") as file:
        file.write(file_header(weights, {"format": "pt"}, STACK_ALIGNMENT if stacked else ALIGNMENT))
        for weight in weights.values():
            _write(weight, file)


def _write(weight: LazyTensor, file: BinaryIO) -> None:
    written = 0
    for value in weight.chunks():
        assert tuple(value.shape[1:]) == weight.shape[1:] and value.dtype == weight.dtype
        if value.numel():
            written += file.write(bytes_of(value))
    assert written == weight.nbytes


def bytes_of(value: Tensor) -> memoryview:
    """Return the bytes of a CPU tensor, without a copy if it is contiguous."""
    flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    numpy: Any = flat.numpy()
    return memoryview(numpy)


@dataclass(frozen=True, slots=True)
class ChildFiles:
    """A child. `content` is the base family's config.json; `layers` and `weights` (by transformers' names) are the child's."""

    shape: Shape
    content: dict[str, Any]
    config: PreTrainedConfig
    layers: tuple[Layer, ...]
    weights: dict[str, LazyTensor]

    @property
    def sub_blocks(self) -> list[tuple[Shape, Shape]]:
        """The shapes of each layer with its attention alone and with its FFN alone, for figures of each sub-block."""
        pairs = zip(self.layers, self.shape.each, strict=True)
        return [(attention.alone(own), ffn.alone(own)) for (attention, ffn), own in pairs]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored weights: the embedding's, or the last norm's where an end has a storage type."""
        family = FAMILIES[self.shape.family]
        of = family.final_norm if END_DTYPES in self.content else family.embedding
        return self.weights[f"{of}.weight"].dtype

    def storage_types(self) -> dict[str, PrecisionName]:
        """Return the storage types of quantised weights, which are float32 and lie on the types' grids, by name."""
        family = FAMILIES[self.shape.family]
        ends: dict[EndName, PrecisionName] = self.content.get(END_DTYPES, {})
        named = {_matrix(family, site): dtype for site, dtype in ends.items()}
        found = {name: dtype for name, dtype in named.items() if name in self.weights}
        types = {index: layer for index, layer in enumerate(self.layers) if any(a.dtype for a in layer)}
        for name, weight in self.weights.items() if types else ():
            index, _, own = name.removeprefix(f"{family.layers}.").partition(".")
            if not name.startswith(f"{family.layers}.") or int(index) not in types:
                continue
            names = access.names_of(self.shape, int(index))
            for sub_block, alternative in zip(SUB_BLOCKS, types[int(index)], strict=True):
                part = names.of(sub_block)
                inside = own.removeprefix(f"{part.module}.") if part is not None else own
                if alternative.dtype is not None and inside != own and is_quantised(inside, weight.shape):
                    found[name] = alternative.dtype
        return found

    def cast(self, dtype: torch.dtype) -> ChildFiles:
        """Return the same child in another dtype, converted when read; weights on grids and exact ones of mixtures in float32."""
        exact = tuple(f".{name}" for name in FAMILIES[self.shape.family].mixture.exact)
        on_grid = self.storage_types()
        kept = {
            name: torch.float32 if name.endswith(exact) or name in on_grid else dtype for name in self.weights
        }
        return replace(self, weights={name: w.cast(kept[name]) for name, w in self.weights.items()})


def from_directory(directory: Path) -> ChildFiles:
    """Open an exported child. Raises DiagnosticError: NotAChild, DamagedWeights, WeightsDontFit."""
    return _open(directory, child_config(directory))


def from_parent(directory: Path) -> ChildFiles:
    """Open a parent as a child without changes. Raises DiagnosticError."""
    return _open(directory, load.load_config(directory))


def _open(directory: Path, config: PreTrainedConfig) -> ChildFiles:
    shape = access.base_shape_of(config)
    layers = access.blocks_of(config) or ((ParentAttention(), ParentFfn()),) * shape.layers
    content = load.read_config_json(directory)
    base = base_content(content) if is_child(content) else content
    # the fields that describe a child or this machine are left out
    dropped = {*load.OWN_KEYS, "_name_or_path", "torch_dtype", "dtype", "quantization_config"}
    kept = {key: value for key, value in base.items() if key not in dropped}
    kept["model_type"] = base["model_type"]
    return ChildFiles(shape, kept, config, layers, load.weights_in(directory, config))


def from_definition(
    definition: ModelDefinition, parent_dir: Path, pieces: Pieces, dtype: torch.dtype | None = None
) -> ChildFiles:
    """Return the child of a solution: the parent's weights and those of the pieces, in `dtype` (default: the parent's).

    A piece is read and checked only when its weights are read. Raises DiagnosticError: NoSuchLayer, PieceDoesNotFit,
    CannotRealise, and those of opening the parent.
    """
    parent = from_parent(parent_dir)
    shape, given = parent.shape, len(definition.layers)
    if given != shape.layers:
        raise DiagnosticError(NoSuchLayer(None, name=definition.name, got=given, expected=shape.layers))
    pairs = zip(definition.layers, access.shape_of(parent.config).each, strict=True)
    mine = [cast(Layer, (on_base(layer.attention, own), on_base(layer.ffn, own))) for layer, own in pairs]
    layers = tuple(from_block_configs(to_block_configs(mine, shape), shape))
    child = parent.cast(dtype or parent.dtype)
    last = lru_cache(maxsize=1)(pieces)  # the weights of one piece are requested one after the other
    weights = dict(child.weights)
    for index, layer in enumerate(definition.layers):
        for chosen in chosen_in(index, layer):
            if not chosen.alternative.keeps_weights:
                _put(weights, chosen, parent.config, last, child.dtype)
    child = _with_ends(replace(child, layers=layers, weights=weights), definition, pieces)
    return replace(child, weights=select(parent_dir, child.shape, child.weights, layers))


def _matrix(family: Family, site: EndName) -> str:
    return f"{family.embedding if site == 'embedding' else family.head}.weight"


def _with_ends(child: ChildFiles, definition: ModelDefinition, pieces: Pieces) -> ChildFiles:
    """Return the child with its embedding and head in their types; types that differ untie them."""
    types, made = definition.ends.types, definition.head_piece
    if not types:
        return child
    family, weights = FAMILIES[child.shape.family], dict(child.weights)
    untied = child.shape.tied and types.get("embedding") != types.get("head")
    embedding = weights[_matrix(family, "embedding")]
    whole = {"embedding": embedding, "head": weights.get(_matrix(family, "head"), embedding)}
    for site in ENDS:
        if site == "embedding" or untied or not child.shape.tied:
            weights[_matrix(family, site)] = _in_type(whole[site], types.get(site))
    if made is not None:
        read = LazyTensor(whole["head"].shape, torch.float32, lambda: pieces(made)["weight"])
        weights[_matrix(family, "head")] = read
    config, content = copy(child.config), {**child.content, END_DTYPES: types}
    if untied:
        config.tie_word_embeddings = content["tie_word_embeddings"] = False
    shape = replace(child.shape, tied=child.shape.tied and not untied)
    return replace(child, shape=shape, config=config, content=content, weights=weights)


def _in_type(weight: LazyTensor, dtype: PrecisionName | None) -> LazyTensor:
    if dtype is None:
        return weight
    return LazyTensor(weight.shape, torch.float32, lambda: rounded_end(weight.read(), dtype))


def _put(
    weights: dict[str, LazyTensor], chosen: Chosen, config: PreTrainedConfig, pieces: Any, dtype: torch.dtype
) -> None:
    """Replace a sub-block of the parent by its piece."""
    alternative, shape = chosen.alternative, access.shape_of(config).at(chosen.layer_idx)
    prefix = f"{access.family_of(config).layers}.{chosen.layer_idx}."
    part = access.names_of(access.base_shape_of(config), chosen.layer_idx).of(chosen.sub_block)
    assert part is not None, f"layer {chosen.layer_idx} has no {chosen.sub_block}"
    own = f"{prefix}{part.module}."
    for name in [name for name in weights if name.startswith(own)]:
        del weights[name]
    if alternative.removes:
        for norm in part.norms:
            del weights[f"{prefix}{norm}.weight"]
    elif chosen.piece is None:
        raise chosen.misfit("the definition names no piece")
    wanted = alternative.stored(shape)

    def reader(name: str, own_dtype: torch.dtype) -> Callable[[], Tensor]:
        def read() -> Tensor:
            found = chosen.weights(pieces, wanted)
            if name == list(wanted)[-1]:  # they are read in this order
                pieces.cache_clear()
            return found[name].to(own_dtype).contiguous()

        return read

    for name, size in wanted.items():
        on_grid = alternative.dtype is not None and is_quantised(name, size)
        exact = on_grid or name in FAMILIES[shape.family].mixture.exact
        own_dtype = torch.float32 if exact else dtype
        weights[own + name] = LazyTensor(size, own_dtype, reader(name, own_dtype))
