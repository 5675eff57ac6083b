"""Write a child as a directory for MLX (mlx-lm).

mlx-lm's nemotron-nas model runs the child if it can represent it. Otherwise the directory includes a model file,
which `mlx_lm.load(directory, trust_remote_code=True)` runs. mlx-lm's model does not support heads that are not hidden
/ heads wide, norms on queries and keys, windows (it ignores them), or a linear first attention (it takes the cache's
position from it).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch

from puzzledsl.alternatives.noop import NoOpAttention
from puzzledsl.alternatives.parent import FFN_MULTIPLE, ffn_mult
from puzzledsl.base.files import appearing
from puzzledsl.child.block_configs import to_block_configs
from puzzledsl.child.checkpoint.card import model_card
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.checkpoint.shards import SHARD_BYTES, write_shards
from puzzledsl.child.checkpoint.write import (
    MLX_MODEL_FILE,
    copy_tokenizer,
    mlx_code,
    refuse_to_overwrite,
    write_json,
)
from puzzledsl.export.lowering import (
    as_family,
    choose,
    lower,
    multiple_of,
    pad_widths,
    windows,
    with_linear_biases,
)
from puzzledsl.export.mlx_codes import mlx_quantization, mlx_types, mlx_weights
from puzzledsl.families.children import MODEL_TYPE
from puzzledsl.ir.engines import MLX

BLOCK = 32
"""Numbers of a row that share a scale, the fewest of the types that MLX has."""


def write_mlx(
    child: ChildFiles,
    base_dir: Path,
    out_dir: Path,
    card: str | None = None,
    *,
    name: str | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the child for MLX in `dtype` (default: the child's), with the tokenizer of `base_dir`.

    Raises DiagnosticError: WouldOverwrite, those of `choose`, and those of reading the weights.
    """
    refuse_to_overwrite(out_dir)
    child = child if dtype is None else child.cast(dtype)
    child = lower(child, choose(child, MLX))
    native, types = is_native(child), mlx_types(child.weights, child.storage_types())
    if native:
        child = as_family(child, "llama") if child.shape.family != "llama" else child
        child = pad_widths(with_linear_biases(child), multiple_of(FFN_MULTIPLE))
    child = pad_widths(child, multiple_of(BLOCK), quantised_only=True)
    config = _native_config(child) if native else _own_config(child)
    weights = child.weights
    if types:
        config["quantization"] = mlx_quantization(types)
        weights = mlx_weights(weights, types, child.dtype)
    if card is None:
        card = model_card(name or out_dir.name, base_dir.name, child.shape, child.layers, child.params)
    with appearing(out_dir) as directory:
        write_shards(weights, directory, shard_bytes)
        write_json(directory / "config.json", config)
        if not native:
            (directory / MLX_MODEL_FILE).write_text(mlx_code(), encoding="utf-8")
        copy_tokenizer(base_dir, directory)
        (directory / "README.md").write_text(card, encoding="utf-8")


def is_native(child: ChildFiles) -> bool:
    """Return True if mlx-lm's nemotron-nas model computes exactly this child."""
    shape = child.shape
    attentions = [attention for attention, _ in child.layers if not isinstance(attention, NoOpAttention)]
    return (
        not shape.qk_norm
        and shape.head_dim * shape.heads == shape.hidden
        and not any(windows(child))
        and bool(attentions)
        and attentions[0].cached_heads(shape) > 0
    )


def _common(child: ChildFiles) -> dict[str, Any]:
    """Return the config.json fields common to both models."""
    shape, config = child.shape, cast(Any, child.config)
    rope = dict(config.rope_parameters)
    theta, kind = rope.pop("rope_theta"), rope.get("rope_type", "default")
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {
        **{key: child.content[key] for key in kept if key in child.content},
        "model_type": MODEL_TYPE,
        "base_model_type": shape.family,
        "architectures": ["DeciLMForCausalLM"],
        "dtype": str(child.dtype).removeprefix("torch."),
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": None if kind == "default" else rope,
        "rope_theta": float(theta),
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocab,
    }


def _native_config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json for mlx-lm's model, whose blocks accept only these keys and give a width as `ffn_mult`."""
    blocks = []
    for block in to_block_configs(child.layers, child.shape):
        attention, ffn = block["attention"], block["ffn"]
        width = ffn["intermediate_size"]
        mult = None if width is None else ffn_mult(width, child.shape.hidden)
        blocks.append(
            {
                "attention": {k: attention[k] for k in ("n_heads_in_group", "no_op", "replace_with_linear")},
                "ffn": {"ffn_mult": mult, **{k: ffn[k] for k in ("no_op", "replace_with_linear")}},
            }
        )
    shape = child.shape
    flags = {"attention_bias": shape.attention_bias, "mlp_bias": shape.mlp_bias}
    return _common(child) | flags | {"block_configs": blocks}


def _own_config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json for the included model file."""
    shape = child.shape
    return _common(child) | {
        "model_file": MLX_MODEL_FILE,
        "block_configs": to_block_configs(child.layers, shape),
        "head_dim": shape.head_dim,
        "qkv_bias": shape.attention_bias,
        "o_bias": shape.output_bias,
        "mlp_bias": shape.mlp_bias,
        "qk_norm": shape.qk_norm,
        "windows": windows(child),
    }
