"""Figures of a parent and of its alternatives that expressions can read."""

from __future__ import annotations

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Shape


def fact(alternative: Alternative, attribute: str, shape: Shape) -> int:
    """Return an integer attribute of one alternative for a parent of `shape`.

    `kv_heads`; `window` in tokens (0 if nothing caps the KV length); `width` in intermediate channels (summed over
    all experts for moe); `params`. An attribute that the alternative lacks is 0. Raises ValueError for a name that is
    no attribute.
    """
    match attribute:
        case "params":
            return alternative.params(shape)
        case "kv_heads":
            return alternative.cached_heads(shape)
        case "window":
            return alternative.attended(shape) or 0
        case "width":
            return alternative.channels(shape)
        case _:
            raise ValueError(f"no attribute {attribute!r}")


def fixed_params(shape: Shape) -> int:
    """Return the parameters outside the layers: embedding, head (not counted again if tied) and final norm."""
    return shape.vocab * shape.hidden * (1 if shape.tied else 2) + shape.hidden


def total_params(shape: Shape) -> int:
    """Return the parameters of the whole parent."""
    attention, ffn = ParentAttention(), ParentFfn()
    layers = sum(len(layers) * (attention.params(own) + ffn.params(own)) for own, layers in shape.kinds())
    return fixed_params(shape) + layers


def parent_fact(shape: Shape, name: str) -> int | str | bool:
    """Return one of the language's `PARENT_FACTS`, as in `llama.layers` or `llama.params`."""
    if name == "params":
        return total_params(shape)
    value: int | str | bool = getattr(shape, name)
    return value
