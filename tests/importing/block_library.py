"""A library of options that have only a name, stats and metrics, made here in the shape that Puzzle's own demonstration has."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

LAYERS, HIDDEN, HEADS, HEAD_DIM, VOCAB = 10, 2048, 16, 128, 5000
KV_HEADS = (4, 2, 0)
WIDTHS = (8192, 6144, 2816, 0)
CONFIG = {
    "model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS[0], "head_dim": HEAD_DIM, "intermediate_size": WIDTHS[0], "vocab_size": VOCAB,
}  # fmt: skip
MEASURED_AT = {"batch_size": 64, "sequence_length": 1200, "gpu": "some GPU", "dtype": "fp8"}


def name_of(kv_heads: int, width: int) -> str:
    """An option's name: the width in thousands, both sub-blocks with their share of the parent's."""
    shares = (
        f"(parent * {round(100 * kv_heads / KV_HEADS[0])}%)",
        f"(parent * {round(100 * width / WIDTHS[0])}%)",
    )
    attention = f"{kv_heads} kv heads" if kv_heads else "no_op"
    ffn = f"intermediate size {round(width / 1000)}e3" if width else "no_op"
    return f"attention = {attention} {shares[0]}\t&&\tffn = {ffn} {shares[1]}"


def stats_of(kv_heads: int, width: int) -> dict[str, Any]:
    """Sizes and times. A block with both sub-blocks takes a little less time than the two alone."""
    attention = HIDDEN * 2 * HEAD_DIM * (HEADS + kv_heads) + HIDDEN if kv_heads else 0
    ffn = 3 * HIDDEN * width + HIDDEN if width else 0
    memory = attention / 2**20 + kv_heads * 64 * 1200 * 2 * HEAD_DIM / 2**20, ffn / 2**20
    runtime = 40.125 + 11.3 * kv_heads if kv_heads else 0, 3.7 + width / 91 if width else 0
    saved = 0.014715 if kv_heads and 0 < width < WIDTHS[0] else 0
    return {
        "num_kv_heads": kv_heads, "ffn_intermediate_size": width,
        "memory_mib": sum(memory), "runtime_ms": sum(runtime) - saved, "num_params": attention + ffn,
        "attention_memory_mib": memory[0], "attention_runtime_ms": runtime[0], "attention_num_params": attention,
        "ffn_memory_mib": memory[1], "ffn_runtime_ms": runtime[1], "ffn_num_params": ffn,
    }  # fmt: skip


def block_library(seed: int = 0) -> dict[str, dict[str, Any]]:
    """Layer -> option -> stats and metrics. A seed always gives the same one."""
    rng = Random(seed)
    library: dict[str, dict[str, Any]] = {}
    for layer in range(LAYERS):
        weight = rng.lognormvariate(-2, 1)
        for kv_heads, width in product(KV_HEADS, WIDTHS):
            lost = (1 - kv_heads / KV_HEADS[0]) + (1 - width / WIDTHS[0]) * rng.uniform(0.2, 1)
            kl_div = round(weight * lost, 9)  # few digits: whole-number goals are then exact
            metrics = {"kl_div": kl_div, "lm_loss": 1.6418 + kl_div / 10}
            library.setdefault(f"layer_{layer}", {})[name_of(kv_heads, width)] = {
                "stats": stats_of(kv_heads, width),
                "metrics": metrics,
            }
    return library


def write_library(
    folder: Path, library: dict[str, dict[str, Any]], *, measured_at: object = MEASURED_AT
) -> Path:
    """The library, the parent's config.json and what the stats were measured at; the library's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "measurement_info.json").write_text(json.dumps(measured_at))
    path = folder / "block_library.json"
    path.write_text(json.dumps(library))
    return path
