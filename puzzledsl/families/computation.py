"""Reader of the parts of a config.json that give no sizes: rotary embeddings, activation, weights of chosen experts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from puzzledsl.alternatives.computation import PARTIAL, USUAL, Computation
from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import BadConfig, Config, shown
from puzzledsl.families.family import Family

ROPES: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "proportional": (),
}
"""Scaling of rotary embeddings in transformers -> the numbers that it needs."""
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh"),
    *("laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6", "sigmoid"),
    *("silu", "swish", "tanh"),
)
"""Activations of transformers without weights."""
MAX_NUMBER = 2.0**62


def computation_of(family: Family, config: Config, shape: Shape) -> Computation:
    """Return what a config.json says about the computation. Raises BadConfig for what transformers cannot compute."""
    name, usual = family.activation
    activation = config.content.get(name, usual)
    if activation not in ACTIVATIONS:
        raise BadConfig(f"{name} is {shown(activation)}; known ones are {', '.join(ACTIVATIONS)}")
    activation = "silu" if activation == "swish" else activation
    mixture = any(own.ffn == "moe" for own, _ in shape.kinds())
    return Computation(
        ropes=tuple(sorted(set(_ropes(family, config, shape)))) or USUAL.ropes,
        activation="" if activation == usual else activation,
        weights_of_all=mixture
        and not config.flag("norm_topk_prob", absent=family.mixture.weights_sum_to_one),
    )


def _ropes(family: Family, config: Config, shape: Shape) -> Iterator[str]:
    """Yield the scaling of each kind of layer, of a family that has rotary embeddings."""
    if not family.literal.get("rope", True):
        return
    content = config.content
    for name in ("rope_scaling", "rope_parameters"):
        if config.has(name) and not isinstance(content[name], dict):
            raise BadConfig(f"{name} is {shown(content[name])}, and should be an object")
    told: dict[str, Any] = content.get("rope_scaling") or content.get("rope_parameters") or {}
    of_all = {"partial_rotary_factor": content.get("partial_rotary_factor")}
    of_kinds = [own for own in told.values() if isinstance(own, dict)]  # one of each kind of layer
    if of_kinds and not family.ropes_of_kinds:
        raise BadConfig(f"rope_parameters is {shown(told)}; a {family.model_type} has one for all layers")
    for rope in of_kinds or [told]:
        yield from _kinds_of(family, of_all | rope, shape)


def _kinds_of(family: Family, rope: Mapping[str, Any], shape: Shape) -> Iterator[str]:
    word = rope.get("rope_type", rope.get("type", "default"))
    known = family.ropes or {name: name for name in ROPES}
    if not isinstance(word, str) or word not in known:
        raise BadConfig(f"rope_type is {shown(word)}; known ones are {', '.join(known)}")
    kind = known[word]
    for name in ROPES[kind]:
        _number(rope, name)
    part = rope.get("partial_rotary_factor")
    part = 1 if part is None else _number(rope, "partial_rotary_factor")
    if kind == "longrope":
        if (usual := shape.hidden // shape.heads) != shape.head_dim:
            raise BadConfig(
                f"head_dim is {shape.head_dim}, and rotary embeddings of type longrope have {usual}"
            )
        for name in ("short_factor", "long_factor"):
            _factors(rope, name, int(shape.head_dim * part) // 2)
    if part != 1:
        yield PARTIAL
    yield kind


def _number(rope: Mapping[str, Any], name: str) -> float:
    """Return a number above 0."""
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_NUMBER:
        what = "missing" if name not in rope else shown(value)
        raise BadConfig(f"{name} of the rotary embedding is {what}")
    return value


def _factors(rope: Mapping[str, Any], name: str, count: int) -> None:
    value = rope.get(name)
    if not isinstance(value, list) or len(value) != count:
        found = f"{len(value)} numbers" if isinstance(value, list) else shown(value)
        raise BadConfig(f"{name} of the rotary embedding is {found}, and should be {count} numbers")
    for factor in value:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise BadConfig(f"{name} of the rotary embedding contains {shown(factor)}")
