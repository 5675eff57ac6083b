"""Mixtures of experts in float64 NumPy, written from the mathematics of their papers: Qwen3-MoE, gpt-oss, Qwen3-Next, Qwen3.5.

Shapes: S positions, H hidden, E experts, W channels of an expert.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mixture(x: Array, own: dict[str, Array], config: dict[str, Any], block: dict[str, Any]) -> Array:
    """The output (S, H) of a mixture with weights `own`; every expert is computed for every token."""
    clamped = "router.weight" in own
    logits = x @ own[f"{'router' if clamped else 'gate'}.weight"].T + own.get("router.bias", 0.0)
    top_k = block.get("num_experts_per_tok") or config["num_experts_per_tok"]
    chosen = np.argsort(-logits, axis=1)[:, :top_k]
    weights = np.zeros_like(logits)
    for place, experts in enumerate(chosen):
        of = logits[place, experts] if clamped or config.get("norm_topk_prob", True) else logits[place]
        shares = np.exp(logits[place, experts]) / np.exp(of).sum()  # of the chosen alone, or of all
        weights[place, experts] = shares
    outputs = np.stack([expert(x, own, config, e, clamped) for e in range(logits.shape[1])], 1)
    found = (weights[..., None] * outputs).sum(1)
    if "shared_expert_gate.weight" in own:  # an expert for every token, with a gate of its own
        gate, up, down = (own[f"shared_expert.{part}_proj.weight"] for part in ("gate", "up", "down"))
        found += (
            activated(x @ gate.T, x @ up.T, config)
            @ down.T
            / (1 + np.exp(-(x @ own["shared_expert_gate.weight"].T)))
        )
    return found


def expert(x: Array, own: dict[str, Array], config: dict[str, Any], e: int, clamped: bool) -> Array:
    """One expert's output for every token."""
    if clamped:  # input-major, gate and up in turn
        both, bias = own["experts.gate_up_proj"][e], own["experts.gate_up_proj_bias"][e]
        gate, up = x @ both[:, ::2] + bias[::2], x @ both[:, 1::2] + bias[1::2]
        return activated(gate, up, config) @ own["experts.down_proj"][e] + own["experts.down_proj_bias"][e]
    if "experts.gate_up_proj" in own:
        gate, up = np.split(own["experts.gate_up_proj"][e], 2)
        down = own["experts.down_proj"][e]
    else:
        gate, up, down = (own[f"experts.{e}.{part}_proj.weight"] for part in ("gate", "up", "down"))
    return activated(x @ gate.T, x @ up.T, config) @ down.T


def activated(gate: Array, up: Array, config: dict[str, Any]) -> Array:
    """The input of the down projection: SiLU, or gpt-oss's clamped one."""
    if "swiglu_limit" not in config:
        return gate / (1 + np.exp(-gate)) * up
    alpha, limit = config["swiglu_alpha"], config["swiglu_limit"]
    gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    return gate / (1 + np.exp(-alpha * gate)) * (up + 1)
