"""Write a safetensors file one tensor at a time: the bytes of `safetensors.torch.save`, which would be all in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.models.families.tensors import CODES

ALIGNMENT = 8
ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "U8")
"""The format's writer sorts tensors by dtype, then by name."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a file, in place. Return its SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in _parts(tensors, metadata):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def _parts(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    names = sorted(tensors, key=lambda name: (ORDER.index(CODES[tensors[name].dtype]), name))
    offset = 0
    for name in names:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        yield tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
