"""Children to time: the parent with alternatives of random weights, written for an engine. Times depend on no weight's value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative
from puzzledsl.alternatives.precision import PRECISIONS, is_quantised
from puzzledsl.child.checkpoint.contents import ChildFiles, from_definition
from puzzledsl.export.gguf_codes import packed
from puzzledsl.export.verify import prepare
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import PARENT_ENDS, EndsAssignment, EngineName, LayerDefinition, ModelDefinition
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.grids import nearest

Layers = Sequence[tuple[Alternative, Alternative]]
CHUNK = 1 << 16
"""Numbers that are drawn; larger weights repeat them."""
SCALE = 0.02


def blank_child(parent_dir: Path, shape: Shape, layers: Layers, ends: str = PARENT_ENDS.name) -> ChildFiles:
    """Return a child of these alternatives (attention and FFN of each layer) whose pieces hold random numbers.

    `ends`: the name of both of its ends.

    Raises DiagnosticError: an alternative that cannot be built, a parent that cannot be read.
    """
    found = [_layer(index, *layer) for index, layer in enumerate(layers)]
    definition = ModelDefinition(
        name="timed", search="timed", parent="timed", layers=tuple(found), ends=EndsAssignment.of(ends)
    )
    by_name: dict[str, tuple[Alternative, Shape]] = {}
    for index, layer in enumerate(layers):
        for sub_block, alternative in zip(SUB_BLOCKS, layer, strict=True):
            by_name[_piece(index, sub_block)] = (alternative, shape.at(index))

    def piece(name: str) -> Mapping[str, Tensor]:
        alternative, own = by_name[name]
        return {
            weight: _stored(weight, tuple(size), alternative.dtype)
            for weight, size in alternative.stored(own).items()
        }

    return from_definition(definition, parent_dir, piece)


def write_blank(
    parent_dir: Path, shape: Shape, layers: Layers, ends: str, engine: EngineName, folder: Path, dtype: str
) -> Path:
    """Write such a child for an engine below `folder`; return what the engine loads. Raises DiagnosticError."""
    child = blank_child(parent_dir, shape, layers, ends)
    return prepare(child, parent_dir, engine, folder, dtype, encode=encoder())


def write_model(directory: Path, engine: EngineName, folder: Path, dtype: str) -> Path:
    """Write a parent's or a child's directory for an engine, without its real weights where the engine's file can do without."""
    from puzzledsl.export.verify import open_model

    return prepare(open_model(directory), directory, engine, folder, dtype, encode=encoder())


def encoder() -> Callable[[LazyTensor, Any], NDArray[Any]]:
    """Return an encoder of a GGUF file's tensors that reads no weight: every type's bytes repeat one encoded chunk."""
    import gguf

    @cache
    def chunk(kind: Any) -> NDArray[Any]:
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        values = _drawn()[: CHUNK // block * block].reshape(-1, block)
        if (precision := PRECISIONS.get(kind.name.lower())) is not None:
            return packed(nearest(values, precision), precision).reshape(-1)
        return np.ascontiguousarray(gguf.quants.quantize(values.numpy(), kind)).view(np.uint8).reshape(-1)

    def encode(weight: LazyTensor, kind: Any) -> NDArray[Any]:
        if len(weight.shape) < 2:
            return np.ones(weight.shape, dtype=np.float32)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row_bytes = weight.shape[-1] // block * block_bytes
        found: NDArray[Any] = np.resize(chunk(kind), (*weight.shape[:-1], row_bytes))
        return found

    return encode


def _layer(index: int, attention: Any, ffn: Any) -> LayerDefinition:
    pieces = {
        f"{sub_block}_piece": None
        if alternative.is_parent or alternative.kind == "noop"
        else _piece(index, sub_block)
        for sub_block, alternative in zip(SUB_BLOCKS, (attention, ffn), strict=True)
    }
    return LayerDefinition(attention=attention, ffn=ffn, **pieces)


def _piece(index: int, sub_block: str) -> str:
    return f"{index}.{sub_block}"


def _stored(name: str, size: tuple[int, ...], dtype: str | None) -> Tensor:
    """Random numbers, on the grid of a storage type where the weight has one."""
    values = _values(size)
    return nearest(values, PRECISIONS[dtype]) if dtype is not None and is_quantised(name, size) else values


def _values(size: tuple[int, ...]) -> Tensor:
    if len(size) < 2:
        return torch.ones(size)
    count = math.prod(size)
    return _drawn().repeat(-(-count // CHUNK))[:count].reshape(size)


@cache
def _drawn() -> Tensor:
    return SCALE * torch.randn(CHUNK, generator=torch.Generator().manual_seed(0))
