"""A child's forward pass in float64 NumPy, written from the mathematics: shares no code with puzzledsl or transformers.

Reads a checkpoint directory itself (config.json and model.safetensors). Slow and short on purpose.
Shapes: S positions, H hidden, N query heads, K key/value heads, D head_dim.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tests import oracle_hybrids
from tests.oracle_caches import stored
from tests.oracle_mixtures import activated, mixture

Array = NDArray[np.float64]
USUAL_NORMS = (("input_layernorm", "post_attention_layernorm"), ("", ""))
NORMS = {
    "gemma3_text": (
        ("input_layernorm", "pre_feedforward_layernorm"),
        ("post_attention_layernorm", "post_feedforward_layernorm"),
    ),
    "olmo2": (("", ""), ("post_attention_layernorm", "post_feedforward_layernorm")),
}
"""Family -> norms before its two sub-blocks, and behind them."""


def oracle_logits(directory: Path, token_ids: list[int]) -> Array:
    """Logits (S, vocabulary) of one sequence."""
    config = json.loads((directory / "config.json").read_text())
    weights = {k: v.astype(np.float64) for k, v in load_file(directory / "model.safetensors").items()}
    if _family(config) in ("nemotron_h", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"):
        return oracle_hybrids.logits(config, weights, token_ids)
    x = weights["model.embed_tokens.weight"][token_ids] * config.get("embedding_multiplier", 1)
    if _family(config) == "gemma3_text":
        x = x * np.sqrt(x.shape[1])
    before, behind = NORMS.get(_family(config), USUAL_NORMS)
    factor = config.get("residual_multiplier", 1)
    for index in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        layer = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
        block = config["block_configs"][index] if "block_configs" in config else {"attention": {}, "ffn": {}}
        _part(layer, config)
        for part, run in enumerate((_attention, _ffn)):
            own = block[("attention", "ffn")[part]]
            if not own.get("no_op"):
                y = run(_normed(x, layer, before[part], config), layer, config, own, index)
                x = x + factor * _normed(y, layer, behind[part], config)
    x = _rms_norm(x, weights["model.norm.weight"], config)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ weights[head].T / config.get("logits_scaling", 1)


def _part(layer: dict[str, Array], config: dict[str, Any]) -> None:
    """Split joined projections: queries, keys and values; gate and up."""
    if (whole := layer.pop("self_attn.qkv_proj.weight", None)) is not None:
        queries = layer["self_attn.o_proj.weight"].shape[1]
        layer["self_attn.q_proj.weight"], rest = whole[:queries], whole[queries:]
        layer["self_attn.k_proj.weight"], layer["self_attn.v_proj.weight"] = np.split(rest, 2)
    if (whole := layer.pop("mlp.gate_up_proj.weight", None)) is not None:
        layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"] = np.split(whole, 2)


def _family(config: dict[str, Any]) -> str:
    return config.get("base_model_type") or config["model_type"]


def _normed(x: Array, layer: dict[str, Array], name: str, config: dict[str, Any]) -> Array:
    return _rms_norm(x, layer[f"{name}.weight"], config) if name else x


def _rms_norm(x: Array, scale: Array, config: dict[str, Any]) -> Array:
    if _family(config) == "gemma3_text":
        scale = 1 + scale
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"]) * scale


def _linear(x: Array, layer: dict[str, Array], name: str) -> Array:
    thin = name.removesuffix("_proj")  # a map of low rank: tests/plugins/low_rank
    if f"{thin}_in.weight" in layer:
        return _linear(x @ layer[f"{thin}_in.weight"].T, layer, f"{thin}_out")
    return x @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0.0)


def _ffn(
    x: Array, layer: dict[str, Array], config: dict[str, Any], block: dict[str, Any], index: int
) -> Array:
    if block.get("replace_with_linear"):
        return x @ layer["mlp.linear.weight"].T
    if any(".experts." in name for name in layer):
        own = {name.removeprefix("mlp."): w for name, w in layer.items() if name.startswith("mlp.")}
        return mixture(x, own, config, block)
    gate, up = _linear(x, layer, "mlp.gate_proj"), _linear(x, layer, "mlp.up_proj")
    if config.get("hidden_activation") == "gelu_pytorch_tanh":
        gate = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        return _linear(gate * up, layer, "mlp.down_proj")
    return _linear(activated(gate, up, config), layer, "mlp.down_proj")


def _attention(
    x: Array, layer: dict[str, Array], config: dict[str, Any], block: dict[str, Any], index: int
) -> Array:
    if block.get("replace_with_linear"):
        return x @ layer["self_attn.linear.weight"].T
    length, dim = len(x), config.get("head_dim") or x.shape[1] // config["num_attention_heads"]
    q, k, v = (_linear(x, layer, f"self_attn.{name}") for name in ("q_proj", "k_proj", "v_proj"))
    whole = "self_attn.q_norm.weight" in layer and len(layer["self_attn.q_norm.weight"]) > dim
    if whole:  # one norm over all heads
        q, k = (_normed(y, layer, f"self_attn.{n}_norm", config) for y, n in ((q, "q"), (k, "k")))
    q, k, v = (y.reshape(length, -1, dim) for y in (q, k, v))
    if "self_attn.q_norm.weight" in layer and not whole:
        q, k = (_normed(y, layer, f"self_attn.{n}_norm", config) for y, n in ((q, "q"), (k, "k")))
    if config.get("no_rope_layers", [1] * (index + 1))[index]:
        q, k = _rotate(q, config, index), _rotate(k, config, index)
    k, v = stored(k, v, block.get("kv_cache"))
    kinds = config.get("layer_types") or ["sliding_attention"] * (index + 1)
    own = config.get("sliding_window") if kinds[index] == "sliding_attention" else None
    found = attend(q, k, v, block, _sharpness(config, dim), own, layer.get("self_attn.sinks"))
    return _linear(found, layer, "self_attn.o_proj")


def attend(
    q: Array,
    k: Array,
    v: Array,
    block: dict[str, Any],
    sharpness: float,
    own: int | None = None,
    sinks: Array | None = None,
) -> Array:
    """Causal attention of all heads, (S, N D), within the parent's own window and a child's; `sinks`: a logit of each head."""
    length, outputs = len(q), []
    window, first = block.get("window_length") or own or length, block.get("num_sink_tokens") or 0
    for head in range(q.shape[1]):
        shared = head * k.shape[1] // q.shape[1]
        logits = q[:, head] @ k[:, shared].T * sharpness
        row, column = np.indices(logits.shape)
        logits[(column > row) | ((column <= row - window + first) & (column >= first))] = -np.inf
        if own:
            logits[column <= row - own] = -np.inf
        if sinks is not None:  # a column without a value
            logits = np.column_stack([logits, np.full(length, sinks[head])])
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        chances = chances / chances.sum(-1, keepdims=True)
        outputs.append(chances[:, :length] @ v[:, shared])
    return np.concatenate(outputs, -1)


def _sharpness(config: dict[str, Any], dim: int) -> float:
    if "query_pre_attn_scalar" in config:
        return config["query_pre_attn_scalar"] ** -0.5
    return config.get("attention_multiplier") or dim**-0.5


def _rotate(x: Array, config: dict[str, Any], index: int) -> Array:
    """Turn the pair (i, i + D/2) of each head by position * frequency of i; of a part of its D dimensions, if told so."""
    rope = config.get("rope_parameters") or {}
    if (part := rope.get("partial_rotary_factor", 1)) != 1:
        turning, rest = np.split(x, [int(part * x.shape[-1])], -1)
        alone = config | {"rope_parameters": {**rope, "partial_rotary_factor": 1}}
        return np.concatenate([_rotate(turning, alone, index), rest], -1)
    half = x.shape[-1] // 2
    frequencies, scale = _frequencies(half, config, index, len(x))
    turn = scale * np.exp(1j * np.arange(len(x))[:, None] * frequencies)[:, None, :]
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], -1)


def _frequencies(half: int, config: dict[str, Any], index: int, length: int) -> tuple[Array, float]:
    """theta^(-2i/D), slowed down as the scaling says, and the factor of what is turned.

    By `factor` altogether, or (llama3, yarn) the more the longer the wave is, or (longrope, arXiv 2402.13753) by a factor of each
    frequency, from one list for sequences of up to the old context and from another beyond.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if "full_attention" in rope:  # one of each kind of layer
        rope = rope[config["layer_types"][index]]
    theta = rope.get("rope_theta") or config["rope_theta"]  # older config.json files have it at the top
    frequencies = theta ** (-np.arange(half) / half)
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        return frequencies / rope["factor"], 1.0
    if kind == "llama3":
        turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)  # in the old context
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return kept * frequencies + (1 - kept) * frequencies / rope["factor"], 1.0
    if kind == "yarn":
        context = rope["original_max_position_embeddings"]
        places = [
            half * np.log(context / (2 * np.pi * rope[b])) / np.log(theta) for b in ("beta_fast", "beta_slow")
        ]
        low, high = max(places[0], 0), min(places[1], 2 * half - 1)
        kept = 1 - np.clip((np.arange(half) - low) / (high - low), 0, 1)
        scaled = kept * frequencies + (1 - kept) * frequencies / rope["factor"]
        return scaled, 0.1 * np.log(rope["factor"]) + 1
    if kind == "longrope":
        context = rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"]
        longer = config["max_position_embeddings"] / context
        factors = rope["long_factor" if length > context else "short_factor"]
        return frequencies / factors, np.sqrt(1 + np.log(longer) / np.log(context))
    assert kind == "default", kind
    return frequencies, 1.0
