"""Mixers with a state in float64 NumPy, one token after the other, as their papers define them.

Shapes: S positions, H hidden, G groups (Mamba2) or key heads (delta net), N heads of values, P channels of a head, K taps.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def mamba2(x: Array, layer: Weights, config: dict[str, Any]) -> Array:
    """Selective state space of Mamba2 (arXiv 2405.21060), with `layer` the mixer's own weights."""
    heads, channels = config["mamba_num_heads"], config["mamba_head_dim"]
    groups, size, inner = config["n_groups"], config["ssm_state_size"], heads * channels
    projected = x @ layer["in_proj.weight"].T
    gate, mixed, step = np.split(projected, [inner, len(projected[0]) - heads], axis=1)
    mixed = silu(causal_convolution(mixed, layer["conv1d.weight"][:, 0]) + layer["conv1d.bias"])
    values, writes, reads = np.split(mixed, [inner, inner + groups * size], axis=1)
    values = values.reshape(-1, heads, channels)
    writes, reads = (each.reshape(-1, groups, size).repeat(heads // groups, 1) for each in (writes, reads))
    step = np.maximum(softplus(step + layer["dt_bias"]), config["time_step_min"])
    state, outputs = np.zeros((heads, channels, size)), np.zeros_like(values)
    for t in range(len(x)):
        decay = np.exp(-step[t] * np.exp(layer["A_log"]))
        written = step[t][:, None, None] * np.einsum("np,ns->nps", values[t], writes[t])
        state = decay[:, None, None] * state + written
        outputs[t] = np.einsum("nps,ns->np", state, reads[t]) + layer["D"][:, None] * values[t]
    gated = (outputs.reshape(len(x), -1) * silu(gate)).reshape(len(x), groups, -1)
    normed = gated / np.sqrt((gated**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
    return normed.reshape(len(x), -1) * layer["norm.weight"] @ layer["out_proj.weight"].T


def delta_net(x: Array, layer: Weights, config: dict[str, Any]) -> Array:
    """Gated delta rule (arXiv 2412.06464), with `layer` the mixer's own weights."""
    groups, heads = config["linear_num_key_heads"], config["linear_num_value_heads"]
    size, channels, shared = config["linear_key_head_dim"], config["linear_value_head_dim"], heads // groups
    wide = shared * channels
    if "in_proj_qkv.weight" in layer:  # Qwen3.5: four maps
        mixed, z, strength, decay = (x @ layer[f"in_proj_{name}.weight"].T for name in ("qkv", "z", "b", "a"))
    else:  # Qwen3-Next: two, key head by key head
        projected = (x @ layer["in_proj_qkvz.weight"].T).reshape(len(x), groups, -1)
        q, k, v, z = np.split(projected, [size, 2 * size, 2 * size + wide], axis=2)
        strength, decay = np.split((x @ layer["in_proj_ba.weight"].T).reshape(len(x), groups, -1), 2, axis=2)
        mixed = np.concatenate([each.reshape(len(x), -1) for each in (q, k, v)], axis=1)
    mixed = silu(causal_convolution(mixed, layer["conv1d.weight"][:, 0]))
    q, k, v = np.split(mixed, [groups * size, 2 * groups * size], axis=1)
    q, k = (unit(each.reshape(len(x), groups, size)).repeat(shared, 1) for each in (q, k))
    v, z = v.reshape(len(x), heads, channels), z.reshape(len(x), heads, channels)
    strength = 1 / (1 + np.exp(-strength.reshape(len(x), heads)))
    decay = np.exp(-np.exp(layer["A_log"]) * softplus(decay.reshape(len(x), heads) + layer["dt_bias"]))
    state, outputs = np.zeros((heads, size, channels)), np.zeros_like(v)
    for t in range(len(x)):
        state = state * decay[t][:, None, None]
        missing = (v[t] - np.einsum("nsp,ns->np", state, k[t])) * strength[t][:, None]
        state = state + np.einsum("ns,np->nsp", k[t], missing)
        outputs[t] = np.einsum("nsp,ns->np", state, q[t]) / np.sqrt(size)
    normed = outputs / np.sqrt((outputs**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
    return (normed * layer["norm.weight"] * silu(z)).reshape(len(x), -1) @ layer["out_proj.weight"].T


def causal_convolution(x: Array, taps: Array) -> Array:
    """Convolve each channel with its own taps (channels, K), the last of which is for the present token."""
    padded = np.concatenate([np.zeros((taps.shape[1] - 1, x.shape[1])), x])
    return sum(padded[j : j + len(x)] * taps[:, j] for j in range(taps.shape[1]))


def unit(x: Array) -> Array:
    """Divide each row by its length."""
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    return x / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(0, x)
