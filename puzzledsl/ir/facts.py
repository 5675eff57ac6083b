"""Figures of a parent and of its alternatives that expressions can read, and its kinds of layers in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import assert_never

from puzzledsl.alternatives.alternative import MIXERS, Alternative
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.ir.nodes import Shape

_FACTS: Mapping[str, Callable[[Alternative, Shape], int]] = {
    "params": lambda each, own: each.params(own),
    "active_params": lambda each, own: each.active_params(own),
    "experts": lambda each, own: each.routing(own)[0] if each.routing(own)[0] > 1 else 0,
    "top_k": lambda each, own: each.routing(own)[1] if each.routing(own)[0] > 1 else 0,
    "kv_heads": lambda each, own: each.cached_heads(own),
    "heads": lambda each, own: each.query_heads(own),
    "window": lambda each, own: each.attended(own) or 0,  # 0 if nothing caps the KV length
    "width": lambda each, own: each.channels(own),  # the sum over a mixture's experts
}


def fact(alternative: Alternative, attribute: str, shape: Shape) -> int:
    """Return a figure of an alternative in a layer of `shape`, 0 if it lacks it. Raises ValueError for a name that is none."""
    if attribute not in _FACTS:
        raise ValueError(f"no attribute {attribute!r}")
    return _FACTS[attribute](alternative, shape)


def fixed_params(shape: Shape, *, untied: bool = False) -> int:
    """Return the parameters outside the layers: embedding, head (not counted again if tied) and final norm."""
    return shape.vocab * shape.hidden * (1 if shape.tied and not untied else 2) + shape.hidden


def untied_params(shape: Shape, embedding: str, head: str) -> int:
    """Return the parameters of the second matrix that a child has whose ends, by name, have types that untie them."""
    return fixed_params(shape, untied=embedding != head) - fixed_params(shape)


def total_params(shape: Shape, name: str = "params") -> int:
    """Return the parameters of the whole parent; with `active_params` those that one token uses. Embedding and head count."""
    layers = ((len(of), *(fact(each, name, own) for each in PARENTS.values())) for own, of in shape.kinds())
    return fixed_params(shape) + sum(number * (attention + ffn) for number, attention, ffn in layers)


def parent_fact(shape: Shape, name: str) -> int | str | bool | None:
    """Return one of `PARENT_FACTS`; None if it differs between the layers that have something of the kind."""
    if name in ("params", "active_params"):
        return total_params(shape, name)
    if name not in _HAVING:
        value: int | str | bool = getattr(shape, name)
        return value
    found = {layer_fact(own, name) for own, _ in shape.kinds() if _has(own, name)} or {0}
    return found.pop() if len(found) == 1 else None


def layer_fact(own: Shape, name: str) -> int | str:
    """Return one of the language's `PARENT_LAYER_FACTS` of a layer; 0 if the layer has nothing of the kind."""
    if name in ("params", "active_params"):
        return sum(fact(sub_block, name, own) for sub_block in PARENTS.values())
    if not _has(own, name):
        return 0
    value: int | str = getattr(own, name) or 0
    return value


_HAVING = {
    **dict.fromkeys(("heads", "kv_heads", "head_dim", "window"), "attention"),
    "intermediate": "dense",
    **dict.fromkeys(("experts", "top_k", "expert_width", "shared_width"), "moe"),
}
"""Figure -> the kind of sub-block that has it."""


def _has(own: Shape, name: str) -> bool:
    return name not in _HAVING or _HAVING[name] in (own.mixer, own.ffn)


def layer_kinds(shape: Shape) -> list[str]:
    """Return a line for each kind of layer, such as `layers 0..4: window 1,024`; none for alike layers with dense FFNs."""
    kinds = [*shape.kinds()]
    names = Shape.model_fields.keys() - {"by_layer", "base"}
    differing = {name for name in names if len({getattr(own, name) for own, _ in kinds}) > 1}
    if not differing and shape.ffn == "dense":
        return []
    lines: list[str] = []
    for own, layers in kinds:
        where = layers_in_words(layers) if len(kinds) > 1 else "every layer"
        lines.append(f"{where}: {', '.join(filter(None, _words(own, differing)))}")
    return lines


def _words(own: Shape, differing: set[str]) -> Iterator[str]:
    match own.mixer:
        case "none":
            pass
        case "linear":
            yield "a matrix in place of attention"
        case "mamba2" | "delta_net":
            yield MIXERS[own.mixer]
        case "attention":
            yield "attention" if "mixer" in differing else ""
            yield f"{own.heads} heads, {own.kv_heads} KV heads" if differing & {"heads", "kv_heads"} else ""
            window = "all tokens" if own.window is None else f"window {own.window:,}"
            yield window if "window" in differing else ""
            yield "no rotary embedding" if "rope" in differing and not own.rope else ""
        case _:
            assert_never(own.mixer)
    match own.ffn:
        case "none":
            pass
        case "linear":
            yield "a matrix in place of the FFN"
        case "dense":
            yield f"FFN of {own.intermediate:,}" if differing & {"ffn", "intermediate"} else ""
        case "moe":
            yield f"{own.experts} experts of {own.expert_width:,}, {own.top_k} a token"
            yield f"{own.shared_width:,} shared" if own.shared_width else ""
        case _:
            assert_never(own.ffn)
