"""Figures of a parent and of its alternatives that expressions can read, its kinds of layers in words, and runs of layers."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import assert_never

from puzzledsl.alternatives.alternative import MIXERS, SUB_BLOCKS, Alternative, absent
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.ir.nodes import LayerChoice, Shape

_FACTS: Mapping[str, Callable[[Alternative, Shape], int]] = {
    "params": lambda each, own: each.params(own),
    "active_params": lambda each, own: each.size(own).used,
    "experts": lambda each, own: each.alone(own).routing[0] if each.alone(own).routing[0] > 1 else 0,
    "top_k": lambda each, own: each.alone(own).routing[1] if each.alone(own).routing[0] > 1 else 0,
    "kv_heads": lambda each, own: each.alone(own).cached_heads,
    "heads": lambda each, own: each.alone(own).query_heads,
    "window": lambda each, own: each.alone(own).attended or 0,  # 0 if nothing caps the KV length
    "width": lambda each, own: each.alone(own).channels,  # the sum over a mixture's experts
}


def fact(alternative: Alternative, attribute: str, shape: Shape) -> int:
    """Return a figure of an alternative in a layer of `shape`; 0 if it has none. Raises ValueError for an unknown `attribute`."""
    if attribute not in _FACTS:
        raise ValueError(f"no attribute {attribute!r}")
    return _FACTS[attribute](alternative, shape)


def fixed_params(shape: Shape, *, untied: bool = False) -> int:
    """Return the parameters outside the layers: embedding, head (not counted again if tied) and final norm."""
    return shape.vocab * shape.hidden * (1 if shape.tied and not untied else 2) + shape.hidden


def untied_params(shape: Shape, embedding: str, head: str) -> int:
    """Return the parameters of the second matrix that a child has if `embedding` and `head`, by name, untie tied ends; else 0."""
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
    """Return a line for each kind of layer, such as `layers 0..4: window 1,024`; no line if all are alike, with dense FFNs."""
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


Run = tuple[int, int]  # First layer, number of layers.
Names = tuple[str, str]  # Names of a layer's attention and FFN.


def dropped_names(shape: Shape) -> list[Names | None]:
    """Return the choice that drops each layer: a no-op for each sub-block that it has. None: it has neither."""
    known: dict[int, Names | None] = {}
    for own, _ in shape.kinds():
        attention, ffn = ("parent" if absent(part, own) else "noop" for part in SUB_BLOCKS)
        known[id(own)] = None if attention == ffn == "parent" else (attention, ffn)
    return [known[id(own)] for own in shape.each]


def can_drop(layers: Sequence[LayerChoice], shape: Shape) -> list[bool]:
    """Return True for each layer that a space can drop."""
    known = {id(choice): choice.by_name() for choice in {id(choice): choice for choice in layers}.values()}
    pairs = zip(dropped_names(shape), (known[id(choice)] for choice in layers), strict=True)
    return [own is not None and own[0] in attention and own[1] in ffn for own, (attention, ffn) in pairs]


def runs_to_drop(layers: Sequence[LayerChoice], shape: Shape, lengths: tuple[int, int] | None) -> list[Run]:
    """Return the runs of layers that a space can drop, of `lengths` (from, to), first layers ascending; none if that is None."""
    if lengths is None:
        return []
    droppable = can_drop(layers, shape)
    return [
        (first, length)
        for first in range(len(layers))
        for length in range(lengths[0], lengths[1] + 1)
        if first + length <= len(layers) and all(droppable[first : first + length])
    ]


def counted_runs(dropped: Sequence[bool], measured: Collection[Run]) -> list[Run]:
    """Return the measured runs that count in a child's score in place of their layers. `dropped[layer]`: no sub-block is left.

    Consecutive dropped layers are cut, from the first, into runs of at most the longest measured length. Of such a run, the
    longest measured run with the same first layer counts, if there is one; its other layers are scored one by one.
    """
    longest = max((length for _, length in measured), default=1)
    found, first = [], 0
    while first < len(dropped):
        end = first + 1
        while dropped[first] and end < len(dropped) and dropped[end] and end - first < longest:
            end += 1
        known = [length for length in range(2, end - first + 1) if (first, length) in measured]
        found += [(first, length) for length in known[-1:]]
        first = end
    return found
