"""Lazy tensors -> safetensors files of bounded size and their index, one tensor in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from puzzledsl.models.families.tensors import CODES, INDEX, LazyTensor, total_bytes

SHARD_BYTES = 5_000_000_000
ALIGNMENT = 8  # of the first tensor, as the format asks
STACK_ALIGNMENT = 64
"""Alignment of a file that starts with stacks of matrices: transformers uses them in place, unaligned ones with other sums."""


def write_shards(
    weights: Mapping[str, LazyTensor], directory: Path, shard_bytes: int = SHARD_BYTES, *, stem: str = "model"
) -> list[Path]:
    """Write `model.safetensors`, or `model-00001-of-0000N.safetensors` … and the index, in order of `weights`.

    A tensor is never split; a file holds at least one, and no more than `shard_bytes` of them otherwise.
    """
    groups = _groups(weights, shard_bytes)
    names = [f"{stem}.safetensors"]
    if len(groups) > 1:
        names = [f"{stem}-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    for name, group in zip(names, groups, strict=True):
        write_safetensors({key: weights[key] for key in group}, directory / name)
    if len(groups) > 1:
        where = {key: name for name, group in zip(names, groups, strict=True) for key in group}
        index = {
            "metadata": {"total_size": total_bytes(weights)},
            "weight_map": dict(sorted(where.items())),
        }
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
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, weight in weights.items():
        end = offset + weight.nbytes
        header[name] = {
            "dtype": CODES[weight.dtype],
            "shape": list(weight.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    stacked = any(len(weight.shape) > 2 for weight in weights.values())
    text += b" " * (-(8 + len(text)) % (STACK_ALIGNMENT if stacked else ALIGNMENT))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
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
