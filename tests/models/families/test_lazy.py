"""Memory of piece making on a large mixture: little more than one layer, however large the model and its files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.families.tensors import INDEX

SIZES: Mapping[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 512,
    "intermediate_size": 3072,
    "num_hidden_layers": 100,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "moe_intermediate_size": 512,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}
"""20 GB in bfloat16, 0.2 GB a layer."""
BLD = """
import re, sys
from pathlib import Path
import torch
from puzzledsl.base.progress import Silent
from puzzledsl.checker.check import check
from puzzledsl.data.counts import Budget
from puzzledsl.models.placement import paged_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train.piece_state import MicroBatches
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.sweep import sweep
from puzzledsl.plan.bld import bld_plan

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
base = Path(sys.argv[1])
program = check(base / "quarter.pzl", {}).program
job = next(job for job in bld_plan(program, "b") if job.layer == 0)
budget, work = Budget.of(job), base / "work"
work.mkdir()
tokens = torch.randint(0, 500, (budget.blocks, budget.context), generator=torch.Generator().manual_seed(0))
order = Order("b", base / "parent", [job], budget, program.spaces["s"].init, tokens, base / "library", work)
model, _ = paged_parent(base / "parent", room_bytes=0)
made, before = [], memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
sweep(model, order, lambda piece, kept: made.append(piece), Silent(), MicroBatches(LayerRunner(model), 1))
assert (base / "library" / made[0].file).stat().st_size > 0
print(memory("VmHWM") - before)
"""
"""Every step of BLD for one piece that is not trained: calibrated, made, compared with the parent, and written."""
PROGRAM = """
parent big = hf("parent")
space s of big {{ attention = parent, ffn = parent | {piece} }}
data d = text("d.txt")
bld b of s {{ train = ffn, tokens = 0, context = 128, calibration = 256, data = d }}
"""


def save_sparse(directory: Path) -> None:
    """Write a checkpoint, one file a layer; all but the first layer are holes: zeros that take no room on the disk."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(dict(SIZES)))
    files: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in inventory(shape_of_config(SIZES)).items():
        stem = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(f"model-{stem}.safetensors", {})[name] = shape
    generator = torch.Generator().manual_seed(0)
    for file, tensors in files.items():
        header, offset = {}, 0
        for name, shape in tensors.items():
            end = offset + 2 * math.prod(shape)
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        with (directory / file).open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            for shape in tensors.values() if file == "model-0.safetensors" else ():
                weight = torch.randn(shape, generator=generator) * shape[-1] ** -0.5 + (len(shape) == 1)
                opened.write(weight.bfloat16().view(torch.uint8).numpy().tobytes())
            opened.truncate(8 + len(text) + offset)
    where = {name: file for file, tensors in files.items() for name in tensors}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["moe(width: 25%)", "moe(experts: 32, top_k: 4)", "mlp(width: 512)"])
def test_a_piece_of_a_layer_of_twenty_gigabytes_takes_little_more_than_both(
    tmp_path: Path, piece: str
) -> None:
    save_sparse(tmp_path / "parent")
    assert sum(file.stat().st_size for file in (tmp_path / "parent").iterdir()) > 20e9
    (tmp_path / "quarter.pzl").write_text(PROGRAM.format(piece=piece))
    command = [sys.executable, "-c", BLD, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    layer_bytes = SIZES["num_experts"] * 3 * 512 * 512 * 4  # float32
    assert layer_bytes < int(run.stdout) < 1.5 * layer_bytes
