"""Nemotron-H's, Qwen3-Next's and Qwen3.5's forward pass in float64 NumPy, for `oracle_forward`.

Shapes: S positions, H hidden, N query heads, D head_dim, E experts.
"""

import re
from typing import Any

import numpy as np

from tests import oracle_forward
from tests.oracle_mixers import Array, Weights, delta_net, mamba2, silu
from tests.oracle_mixtures import mixture

Config = dict[str, Any]
Block = dict[str, Any]


def logits(config: Config, weights: Weights, token_ids: list[int]) -> Array:
    """Logits (S, vocabulary) of one sequence."""
    own = _nemotron_h if config.get("base_model_type", config["model_type"]) == "nemotron_h" else _qwen3_next
    return own(config, {re.sub("^backbone", "model", name): w for name, w in weights.items()}, token_ids)


def _inside(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def _blocks(config: Config, index: int) -> tuple[Block, Block]:
    if "block_configs" not in config:
        return {}, {}
    return config["block_configs"][index]["attention"], config["block_configs"][index]["ffn"]


def _norm(x: Array, scale: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * scale


# ---------------------------------------------------------------- Nemotron-H


def _nemotron_h(config: Config, weights: Weights, token_ids: list[int]) -> Array:
    x, eps = weights["model.embeddings.weight"][token_ids], config["layer_norm_epsilon"]
    for index, kind in enumerate(config["layers_block_type"]):
        layer, (attention, ffn) = _inside(weights, f"model.layers.{index}."), _blocks(config, index)
        own = _inside(layer, "mixer.")
        block = attention if kind in ("linear_attention", "full_attention") else ffn
        if block.get("no_op"):
            assert not layer
            continue
        normed = _norm(x, layer["norm.weight"], eps)
        if block.get("replace_with_linear"):
            x = x + normed @ own["linear.weight"].T
        elif kind == "linear_attention":
            x = x + mamba2(normed, own, config)
        elif kind == "full_attention":
            x = x + _attention(normed, own, config, block)
        elif "up_proj.weight" in own:  # in place of a mixture, too
            x = x + _squared_relu_ffn(normed, own["up_proj.weight"], own["down_proj.weight"])
        else:
            x = x + _sigmoid_mixture(normed, own, config, block)
    return _norm(x, weights["model.norm_f.weight"], eps) @ weights["lm_head.weight"].T


def _attention(x: Array, own: Weights, config: Config, block: Block) -> Array:
    """Attention without positions."""
    q, k, v = (
        (x @ own[f"{name}.weight"].T).reshape(len(x), -1, config["head_dim"])
        for name in ("q_proj", "k_proj", "v_proj")
    )
    return oracle_forward.attend(q, k, v, block, config["head_dim"] ** -0.5) @ own["o_proj.weight"].T


def _squared_relu_ffn(x: Array, up: Array, down: Array) -> Array:
    return np.maximum(x @ up.T, 0) ** 2 @ down.T


def _sigmoid_mixture(x: Array, own: Weights, config: Config, block: Block) -> Array:
    """Experts chosen by sigmoid scores with a correction bias, weighted by the scores without it."""
    scores = 1 / (1 + np.exp(-(x @ own["gate.weight"].T)))
    output = _squared_relu_ffn(
        x, own["shared_experts.up_proj.weight"], own["shared_experts.down_proj.weight"]
    )
    top_k = block.get("num_experts_per_tok") or config["num_experts_per_tok"]
    for token, score in enumerate(scores):
        chosen = np.argsort(-(score + own["gate.e_score_correction_bias"]))[:top_k]
        shares = score[chosen] / (score[chosen].sum() if config["norm_topk_prob"] else 1)
        for expert, share in zip(chosen, shares * config["routed_scaling_factor"], strict=True):
            up, down = _expert(own, "up_proj", expert), _expert(own, "down_proj", expert)
            output[token] += share * _squared_relu_ffn(x[token], up, down)
    return output


def _expert(own: Weights, name: str, expert: int) -> Array:
    """One expert's matrix: from its own tensor, or from that of all experts."""
    fused = own.get(f"experts.{name}")
    return own[f"experts.{expert}.{name}.weight"] if fused is None else fused[expert]


# ---------------------------------------------------------------- Qwen3-Next, Qwen3.5


def _qwen3_next(config: Config, weights: Weights, token_ids: list[int]) -> Array:
    x, eps = weights["model.embed_tokens.weight"][token_ids], config["rms_norm_eps"]
    for index, kind in enumerate(config["layer_types"]):
        layer, (attention, ffn) = _inside(weights, f"model.layers.{index}."), _blocks(config, index)
        mixer = "linear_attn." if kind == "linear_attention" else "self_attn."
        if not attention.get("no_op"):
            own, normed = _inside(layer, mixer), _norm(x, 1 + layer["input_layernorm.weight"], eps)
            if attention.get("replace_with_linear"):
                x = x + normed @ own["linear.weight"].T
            elif kind == "linear_attention":
                x = x + delta_net(normed, own, config)
            else:
                x = x + _gated_attention(normed, own, config, attention)
        if not ffn.get("no_op"):
            own, normed = _inside(layer, "mlp."), _norm(x, 1 + layer["post_attention_layernorm.weight"], eps)
            if ffn.get("replace_with_linear"):
                x = x + normed @ own["linear.weight"].T
            elif "gate.weight" in own:
                x = x + mixture(normed, own, config, ffn)
            else:
                gate, up, down = (own[f"{name}_proj.weight"] for name in ("gate", "up", "down"))
                x = x + silu(normed @ gate.T) * (normed @ up.T) @ down.T
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return _norm(x, 1 + weights["model.norm.weight"], eps) @ weights[head].T


def _gated_attention(x: Array, own: Weights, config: Config, block: Block) -> Array:
    """Attention with rotary embedding in a part of each head, and a sigmoid gate on its output."""
    dim, eps = config["head_dim"], config["rms_norm_eps"]

    def made(name: str) -> Array:
        return x @ own[f"{name}.weight"].T + own.get(f"{name}.bias", 0.0)

    asked = made("q_proj").reshape(len(x), -1, 2 * dim)
    q, gate = asked[..., :dim], asked[..., dim:]
    k, v = (made(name).reshape(len(x), -1, dim) for name in ("k_proj", "v_proj"))
    q, k = _norm(q, 1 + own["q_norm.weight"], eps), _norm(k, 1 + own["k_norm.weight"], eps)
    q, k = (oracle_forward._rotate(each, config, 0) for each in (q, k))
    gated = oracle_forward.attend(q, k, v, block, dim**-0.5) / (1 + np.exp(-gate.reshape(len(x), -1)))
    return gated @ own["o_proj.weight"].T + own.get("o_proj.bias", 0.0)
