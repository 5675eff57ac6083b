"""Mixtures of experts in float64 NumPy, written from the mathematics of Qwen3-MoE's and gpt-oss's papers.

Shapes: S positions, H hidden, E experts, W channels of an expert.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mixture(x: Array, layer: dict[str, Array], config: dict[str, Any], block: dict[str, Any]) -> Array:
    """The mixture's output (S, H); every expert is computed for every token."""
    clamped = "mlp.router.weight" in layer
    logits = x @ layer[f"mlp.{'router' if clamped else 'gate'}.weight"].T + layer.get("mlp.router.bias", 0.0)
    top_k = block.get("num_experts_per_tok") or config["num_experts_per_tok"]
    chosen = np.argsort(-logits, axis=1)[:, :top_k]
    weights = np.zeros_like(logits)
    for place, experts in enumerate(chosen):
        of = logits[place, experts] if clamped or config["norm_topk_prob"] else logits[place]
        shares = np.exp(logits[place, experts]) / np.exp(of).sum()  # of the chosen alone, or of all
        weights[place, experts] = shares
    outputs = np.stack([expert(x, layer, config, e, clamped) for e in range(logits.shape[1])], 1)
    return (weights[..., None] * outputs).sum(1)


def expert(x: Array, layer: dict[str, Array], config: dict[str, Any], e: int, clamped: bool) -> Array:
    """One expert's output for every token."""
    if clamped:  # input-major, gate and up in turn
        both = layer["mlp.experts.gate_up_proj"][e]
        bias = layer["mlp.experts.gate_up_proj_bias"][e]
        gate, up = x @ both[:, ::2] + bias[::2], x @ both[:, 1::2] + bias[1::2]
        down = layer["mlp.experts.down_proj"][e]
        return activated(gate, up, config) @ down + layer["mlp.experts.down_proj_bias"][e]
    if "mlp.experts.gate_up_proj" in layer:
        gate, up = np.split(layer["mlp.experts.gate_up_proj"][e], 2)
        down = layer["mlp.experts.down_proj"][e]
    else:
        gate, up, down = (layer[f"mlp.experts.{e}.{part}_proj.weight"] for part in ("gate", "up", "down"))
    return activated(x @ gate.T, x @ up.T, config) @ down.T


def activated(gate: Array, up: Array, config: dict[str, Any]) -> Array:
    """The input of the down projection: SiLU, or gpt-oss's clamped one."""
    if "swiglu_limit" not in config:
        return gate / (1 + np.exp(-gate)) * up
    alpha, limit = config["swiglu_alpha"], config["swiglu_limit"]
    gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    return gate / (1 + np.exp(-alpha * gate)) * (up + 1)
