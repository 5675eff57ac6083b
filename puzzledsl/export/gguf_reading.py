"""Read a child's weights back from a GGUF file: each dequantised, and in transformers' order and names again.

Shapes: N heads of D = head_dim rows each, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.errors import NotThisChild
from puzzledsl.export.gguf_file import INSIDE, OUTSIDE, as_llama_cpp
from puzzledsl.ir.engines import DECI, OPENELM
from puzzledsl.models.families.tensors import LazyTensor

FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class Read(NamedTuple):
    """A child as a file has it, and as llama.cpp would run it unrounded: the same names and shapes of weights."""

    rounded: ChildFiles
    own: ChildFiles


def read_gguf(path: Path, child: ChildFiles) -> Read:
    """Return the child, as llama.cpp runs it, with the weights of a file that was made of it; types of sub-blocks are gone.

    Weights are float32 and dequantised when they are read. Raises DiagnosticError: NotThisChild, what llama.cpp cannot represent.
    """
    import gguf

    try:
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, IndexError, OverflowError) as error:
        raise DiagnosticError(NotThisChild(None, path=path, reason="it is no GGUF file")) from error
    reason = "nothing is left of it"
    for whole_blocks in (True, False):  # a file has all FFNs in whole blocks, or only the quantised ones
        lowered, engine = as_llama_cpp(child, whole_blocks=whole_blocks)
        try:
            weights = {name: _read(name, lowered, engine, tensors) for name in lowered.weights}
        except _Unlike as error:
            reason = str(error)
            continue
        layers = tuple((attention.unquantised, ffn.unquantised) for attention, ffn in lowered.layers)
        return Read(replace(lowered, layers=layers, weights=weights), lowered)
    raise DiagnosticError(NotThisChild(None, path=path, reason=reason))


class _Unlike(Exception):
    """The file lacks a weight of the child, or has it in another size."""


def _read(name: str, child: ChildFiles, engine: Architecture, tensors: Mapping[str, Any]) -> LazyTensor:
    shape = child.weights[name].shape
    place = place_of(name, child, engine)
    if (tensor := tensors.get(place.tensor)) is None:
        raise _Unlike(f"it has no tensor `{place.tensor}`")
    found = tuple(int(size) for size in reversed(tensor.shape))
    if place.whole and found != shape:
        raise _Unlike(f"its tensor `{place.tensor}` has the shape {list(found)}, not {list(shape)}")

    def read() -> Tensor:
        import gguf

        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        return place.cut(value.reshape(found), shape)

    return LazyTensor(shape, torch.float32, read)


class Place:
    """The tensor that holds a weight. `first`: its first row there; `expert`: its matrix; `head_dim`: of heads in pairs."""

    def __init__(
        self, tensor: str, *, first: int | None = None, expert: int | None = None, head_dim: int = 0
    ) -> None:
        self.tensor, self.first, self.expert, self.head_dim = tensor, first, expert, head_dim
        self.whole = first is None and expert is None

    def cut(self, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weight from the tensor's value."""
        if self.expert is not None:
            value = value[self.expert]
        if self.first is not None:
            value = value[self.first :]
        value = value[tuple(slice(size) for size in shape)]
        if self.head_dim:
            value = value.reshape(-1, self.head_dim // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)
        return value.contiguous()


def place_of(name: str, child: ChildFiles, engine: Architecture) -> Place:
    """Return the place of a weight of a lowered child in its file."""
    if name in OUTSIDE:
        return Place(OUTSIDE[name])
    index, _, own = name.removeprefix("model.layers.").partition(".")
    module, _, kind = own.rpartition(".")
    if module == "mlp.gate":
        return Place(f"blk.{index}.ffn_gate_inp.weight", first=0)
    if module.startswith("mlp.experts."):
        expert, _, projection = module.removeprefix("mlp.experts.").partition(".")
        return Place(f"blk.{index}.ffn_{projection.removesuffix('_proj')}_exps.weight", expert=int(expert))
    if engine is OPENELM and module in FUSED:
        before = FUSED[: FUSED.index(module)]
        first = sum(child.weights[f"model.layers.{index}.{m}.weight"].shape[0] for m in before)
        return Place(f"blk.{index}.attn_qkv.weight", first=first)
    paired = engine is DECI and module in FUSED[:2]
    return Place(f"blk.{index}.{INSIDE[module]}.{kind}", head_dim=child.shape.head_dim if paired else 0)
