"""Reorder the channels of a Llama at random, exactly: the function stays, and no row is left in the order of its source.

A quantised file rounds runs of 32 numbers of a row to one grid. Weights that come from such a file lie on that grid, so
that rounding them again by like runs loses less than it would lose on other models. In another order a run holds
numbers of many grids.

    hidden channels    of embedding, norms, the inputs of a sub-block and its outputs
    FFN channels       of each layer
    heads              the key-value heads of each layer, with their query heads, and these among themselves
    value channels     of each key-value head: rows of `v_proj`, and the columns of `o_proj` that read them

The channels of queries and keys keep their order, which position embeddings rest on; they are rows, not runs in a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def permute(weights: dict[str, Any], config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same model, in Transformers' names and shapes, with its channels in an order drawn from `seed`."""
    dice = np.random.default_rng(seed)
    hidden = dice.permutation(config["hidden_size"])
    found = dict(weights)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in found:
            found[name] = found[name][:, hidden]
    found["model.norm.weight"] = found["model.norm.weight"][hidden]
    for layer in range(config["num_hidden_layers"]):
        inside = dice.permutation(config["intermediate_size"])
        queries, keys, values, read = _heads(config, dice)
        orders = {
            "input_layernorm": (hidden, None),
            "post_attention_layernorm": (hidden, None),
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (values, hidden),
            "self_attn.o_proj": (hidden, read),
            "mlp.gate_proj": (inside, hidden),
            "mlp.up_proj": (inside, hidden),
            "mlp.down_proj": (hidden, inside),
        }
        for own, (rows, columns) in orders.items():
            name = f"model.layers.{layer}.{own}.weight"
            found[name] = found[name][rows] if columns is None else found[name][rows][:, columns]
    return found


def _heads(config: dict[str, Any], dice: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Orders of one layer's rows of `q_proj`, `k_proj` and `v_proj`, and of the columns of `o_proj`."""
    kv_heads, dim = config["num_key_value_heads"], config["head_dim"]
    group = config["num_attention_heads"] // kv_heads
    order, channels = dice.permutation(kv_heads), np.arange(dim)
    inside = {head: dice.permutation(dim) for head in order}
    queries = [(head, head * group + one) for head in order for one in dice.permutation(group)]
    return (
        np.concatenate([query * dim + channels for _, query in queries]),
        np.concatenate([head * dim + channels for head in order]),
        np.concatenate([head * dim + inside[head] for head in order]),
        np.concatenate([query * dim + inside[head] for head, query in queries]),
    )
