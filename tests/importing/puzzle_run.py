"""A small Puzzletron run, made here in the shape of that tool's files: 4 layers, KV heads 4 -> 2, FFN 256 -> 128, no-ops."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

LAYERS, HIDDEN, HEADS, HEAD_DIM, VOCAB = 4, 64, 8, 16, 500
KV, WIDTH = 4, 256
BATCHES = (8, 16)
TOKENS = 512 + 128


def attention_config(kv_heads: int | None) -> dict[str, Any]:
    return {
        "no_op": kv_heads is None,
        "replace_with_linear": False,
        "sparsify": None,
        "weights_precision": "bf16",
        "num_key_value_heads": kv_heads,
        "llama4": None,
        "mamba": None,
    }


def ffn_config(width: int | None) -> dict[str, Any]:
    return {
        "no_op": width is None,
        "replace_with_linear": False,
        "sparsify": None,
        "weights_precision": "bf16",
        "moe": None,
        "intermediate_size": width,
    }


ATTENTIONS = (KV, 2, None)
FFNS = (WIDTH, 128, None)


def params_of(kv_heads: int | None = None, width: int | None = None) -> int:
    """Weights and the norm in front."""
    if kv_heads is not None:
        return HIDDEN * (2 * HEADS * HEAD_DIM + 2 * kv_heads * HEAD_DIM) + HIDDEN
    return 3 * HIDDEN * width + HIDDEN if width is not None else 0


def loss(layer: int, kv_heads: int | None, width: int | None) -> float:
    """Something that grows with what is taken away, and does not just add up."""
    taken = {KV: 0.0, 2: 0.01, None: 0.05}[kv_heads] + {WIDTH: 0.0, 128: 0.02, None: 0.09}[width]
    return round(taken * (1 + layer % 3) + (0.004 if kv_heads is None and width is None else 0), 6)


def subblock_stats(runtime: bool = True) -> list[dict[str, Any]]:
    entries = []
    for batch in BATCHES:
        subblocks = []
        for layer, kv_heads in product(range(LAYERS), ATTENTIONS):
            cache = 0 if kv_heads is None else batch * TOKENS * 2 * kv_heads * HEAD_DIM * 2 / 2**20
            params = params_of(kv_heads=kv_heads)
            subblocks.append(
                {
                    "subblock_config": attention_config(kv_heads),
                    "subblock_config_class": "AttentionConfig",
                    "runtime_ms": (0.0 if kv_heads is None else 3.5 + kv_heads / 8 * batch)
                    if runtime
                    else None,
                    "prefill_runtime_ms": None,
                    "decode_runtime_ms": None,
                    "num_params": params,
                    "active_params": params,
                    "parent_layer_index": layer,
                    "memory_mib": params * 2 / 2**20 + cache,
                    "kv_cache_memory_mib": cache,
                }
            )
        for layer, width in product(range(LAYERS), FFNS):
            params = params_of(width=width)
            subblocks.append(
                {
                    "subblock_config": ffn_config(width),
                    "subblock_config_class": "FFNConfig",
                    "runtime_ms": (0.0 if width is None else 2.0 + width / 100) if runtime else None,
                    "prefill_runtime_ms": None,
                    "decode_runtime_ms": None,
                    "num_params": params,
                    "active_params": params,
                    "parent_layer_index": layer,
                    "memory_mib": params * 2 / 2**20,
                    "kv_cache_memory_mib": 0.0,
                }
            )
        fixed = 2 * VOCAB * HIDDEN + HIDDEN
        args = {
            "gpu": "some GPU",
            "batch_size": batch,
            "prefill_seq_len": 512,
            "generation_seq_len": 128,
            "prefill_queue_size": 0,
            "n_embd": HIDDEN,
            "n_head": HEADS,
            "vocab_size": VOCAB,
            "runtime_stats": runtime,
            "use_cuda_graph": True,
            "weights_dtype": "torch.bfloat16",
            "activations_dtype": "torch.bfloat16",
            "kv_cache_dtype": "torch.bfloat16",
        }
        non_block = {
            "runtime_ms": 7.25 if runtime else None,
            "memory_mib": fixed * 2 / 2**20,
            "num_params": fixed,
        }
        entries.append({"args": args, "non_block": non_block, "subblocks": subblocks})
    return entries


def metrics(value: float) -> dict[str, dict[str, Any]]:
    return {
        "lm_loss": {"avg": round(1.5 + value, 6), "per_sample": [1.5 + value]},
        "cosine_embedding_loss_hidden_states": {"avg": value, "per_sample": [value]},
        "token_accuracy_top_1": {"avg": round(0.7 - value, 6), "per_sample": [0.7 - value]},
    }


def write_run(directory: Path, *, runtime: bool = True, solved: bool = True) -> Path:
    """A run's directory: statistics, validation of every replacement, and (with `solved`) an answer of the tool's own."""
    folder = directory / "single_sequence_replacement_solutions--validation"
    folder.mkdir(parents=True)
    teacher_dir = directory / "ckpts" / "teacher"
    teacher_dir.mkdir(parents=True)
    config = {
        "model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
        "num_key_value_heads": KV, "head_dim": HEAD_DIM, "intermediate_size": WIDTH, "vocab_size": VOCAB,
        "tie_word_embeddings": False,
    }  # fmt: skip
    (teacher_dir / "config.json").write_text(json.dumps(config))
    (directory / "subblock_stats.json").write_text(json.dumps(subblock_stats(runtime), indent=2))
    teacher = metrics(0.0)
    del teacher["cosine_embedding_loss_hidden_states"]
    (folder / "teacher.json").write_text(
        json.dumps({**teacher, "args": {"descriptor": "llama", "teacher_dir": "/gone"}})
    )
    number = 0
    for layer, kv_heads, width in product(range(LAYERS), ATTENTIONS, FFNS):
        if (kv_heads, width) == (KV, WIDTH):
            continue
        replacement = {
            "parent_layer_indices": [layer],
            "child_block_configs": [
                {"attention": attention_config(kv_heads), "ffn": ffn_config(width), "parallel_blocks": None}
            ],
            "weight_paths": [],
        }
        solution = {
            "single_sequence_replacement": replacement,
            "chosen_replacements": [],
            "block_configs": [],
        }
        payload = {
            **metrics(loss(layer, kv_heads, width)),
            "i_solution": number,
            "puzzle_solution": solution,
            "args": {},
        }
        (folder / f"solution_{number}.json").write_text(json.dumps(payload))
        number += 1
    if solved:
        answer = directory / "mip" / "puzzle_solutions" / "batch_size_16" / "target_memory_6MiB"
        answer.mkdir(parents=True)
        puzzle_args = {
            "objective": "metrics.cosine_embedding_loss_hidden_states",
            "bigger_is_better": False,
            "subblock_stats_args": {"batch_size": 16, "weights_dtype": "torch.bfloat16"},
            "mip_constraints": {"stats.memory_mib": 6.5, "stats.num_kv_heads": [4, 14], "stats.sparsity": 3},
        }
        total = {"metrics.cosine_embedding_loss_hidden_states": 0.123}
        solutions = [
            {"chosen_replacements": [], "total_value": total, "total_costs": {}, "puzzle_args": puzzle_args}
        ]
        (answer / "solutions.json").write_text(json.dumps(solutions))
    return directory
