"""Figures of a parent and of its alternatives that expressions can read."""

from __future__ import annotations

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import Shape


def fact(alternative: Alternative, attribute: str, shape: Shape) -> int:
    """Return an integer attribute of one alternative in a layer of `shape`.

    `kv_heads`; `window` in tokens (0 if nothing caps the KV length); `width` in intermediate channels (summed over
    all experts for moe); `params`; `active_params`, those that one token uses; `experts` and `top_k` (0 without a
    mixture). An attribute that the alternative lacks is 0. Raises ValueError for a name that is no attribute.
    """
    match attribute:
        case "params":
            return alternative.params(shape)
        case "active_params":
            return alternative.active_params(shape)
        case "experts" | "top_k":
            experts, top_k = alternative.routing(shape)
            return 0 if experts == 1 else experts if attribute == "experts" else top_k
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


def active_params(shape: Shape) -> int:
    """Return the parameters of the parent that one token uses: all but those of the experts that it leaves out.

    Equal to `total_params` without a mixture. Embedding and head count, as in `total_params`.
    """
    attention, ffn = ParentAttention(), ParentFfn()
    layers = ((len(of), attention.active_params(own) + ffn.active_params(own)) for own, of in shape.kinds())
    return fixed_params(shape) + sum(number * params for number, params in layers)


def parent_fact(shape: Shape, name: str) -> int | str | bool:
    """Return one of the language's `PARENT_FACTS`, as in `llama.layers` or `llama.params`."""
    if name == "params":
        return total_params(shape)
    if name == "active_params":
        return active_params(shape)
    value: int | str | bool = getattr(shape, name)
    return value
