"""Checkpoints of the size of real mixtures. Most weights are holes in sparse files: zeros that take no room on the disk."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.families.tensors import INDEX

SIZES: Mapping[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 50,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "moe_intermediate_size": 1024,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}
"""40 GB in bfloat16, 0.8 GB a layer."""


def save_sparse(directory: Path, content: Mapping[str, Any] = SIZES, written: Collection[int] = (0,)) -> Path:
    """Write a checkpoint in bfloat16, one file a layer, of which those `written` have random weights; returns the directory."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(content))
    files: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in inventory(shape_of_config(content)).items():
        stem = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(f"model-{stem}.safetensors", {})[name] = shape
    random = {f"model-{layer}.safetensors" for layer in written}
    for file, tensors in files.items():
        with (directory / file).open("wb") as opened:
            _write(opened, tensors, holes=file not in random)
    where = {name: file for file, tensors in files.items() for name in tensors}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return directory


def _write(file: BinaryIO, tensors: Mapping[str, tuple[int, ...]], *, holes: bool) -> None:
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    if holes:
        file.truncate(8 + len(text) + offset)
        return
    generator = torch.Generator().manual_seed(0)
    for shape in tensors.values():
        numbers = torch.randn(shape, generator=generator) * shape[-1] ** -0.5
        weight = torch.ones(shape) if len(shape) == 1 else numbers
        file.write(weight.bfloat16().view(torch.uint8).numpy().tobytes())
