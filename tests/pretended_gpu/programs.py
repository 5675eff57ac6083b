"""Tiny programs with every stage, on a measured CUDA device."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import EXPERTS, save_tiny

ATTENTION = "parent | gqa(kv_heads: 1) | linear | noop"
FFN = "parent | mlp(width: 50%) | noop"
PROGRAM = """\
parent p = hf("parent")
space w of p {{
  attention = {attention}
  ffn = {ffn}
}}
hardware here = measured(device: {device}, dtype: {dtype})
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
bld pieces of w {{
  tokens = 128, context = 16, batch = 2, calibration = 128, lr = cosine(1e-3), data = corpus, heal = 64
}}
score kl of pieces = replace_one(kl_divergence, samples: 64)
score cured of pieces = replace_one(kl_divergence, samples: 16, healed: 64)
search best of w {{ minimize kl, require params <= 0.8x }}
search cheap of w {{ minimize cured, require params <= 0.7x }}
uptrain final of best {{
  loss = 1 * kld + 1 * cosine + 1 * lm
  tokens = 64, context = 16, batch = 2, lr = cosine(1e-3), data = corpus
}}
eval quality of final = tasks("items.jsonl") {{ data = corpus, tokens = 64 }}
export ship of final = hf("out")
"""
COUPLED = """\
space both of p {{
  attention = parent | {gqa}
  ffn = parent | mlp(width: 50%)
}}
bld pairs of both {{
  train = attention * ffn, tokens = 64, context = 16, batch = 2, calibration = 128, data = corpus, heal = 0
}}
score blocks of pairs = replace_one(kl_divergence, samples: 16)
search narrow of both {{ minimize blocks, require params <= 0.9x, refine = measured(2, healed: 64, samples: 16) }}
"""
LAYERS = {"nemotron_h": 4, "gemma3_text": 3}


def write_program(
    directory: Path, family: str, *, device: str = "cuda", dtype: str = "bf16", more: str = ""
) -> Path:
    """Write a program, its parent, text and tasks; return the `.pzl` file."""
    save_tiny(directory / "parent", family, layers=LAYERS.get(family, 2))
    (directory / "train.txt").write_text("A sentence of some words, and another one. " * 60, "utf-8")
    items = [{"context": f"number {i}", "choices": ["goes on", "stops"], "answer": i % 2} for i in range(4)]
    (directory / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    file = directory / "all.pzl"
    ffn = FFN + " | moe(experts: 4)" * (family in EXPERTS)
    text = PROGRAM.format(attention=ATTENTION, ffn=ffn, device=device, dtype=dtype)
    file.write_text(text + more, "utf-8")
    return file
