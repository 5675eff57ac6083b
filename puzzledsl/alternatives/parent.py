"""The parent's own sub-block, and the description of its weights that smaller ones share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self, assert_never

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, Attention, Ffn, Look, Site
from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.state import NO_STATE, StateSize, scan_flop, state_size
from puzzledsl.alternatives.support import NATIVE, Architecture, Support
from puzzledsl.alternatives.weights import Weight, Weights, matrix_weights, mixer_weights

FFN_MULTIPLE = 256
"""Runtimes that read `ffn_mult` round the FFN width up to a multiple of this."""


class _Parent(Alternative):
    """The parent's own module."""

    place: ClassVar[int] = 0
    summary: ClassVar[str] = "The parent's own sub-block, untouched: no job, score 0."
    own_weights: ClassVar[bool] = False
    look: ClassVar[Look] = "parent"

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """A layer can keep what it has."""
        return ""

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return what the architecture has of the parent's window."""
        return NATIVE if self.attended(shape) is None else engine.window

    def in_parent(self, shape: Shape) -> dict[str, Any]:
        """Nothing differs."""
        return {}


class ParentAttention(_Parent, Attention):
    """The parent's own attention, untouched."""

    kind: Literal["parent"] = "parent"
    last_map: ClassVar[str | None] = "o_proj"

    def answers_to(self, word: str, shape: Shape) -> bool:
        """`gqa` matches the parent's attention, too, by its figures."""
        return word in ("parent", {"attention": "gqa", "linear": "linear"}.get(shape.mixer))

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return the figures of the parent as a `gqa`."""
        known = {"kv_heads": shape.kv_heads, "heads": shape.heads, "sinks": shape.window_sinks}
        return Fraction(known[field] if field in known else self.attended(shape) or UNCAPPED)

    def weights(self, shape: Shape) -> Weights:
        """Return q, k, v, o with optional biases and per-head q/k norms, or the weights of another mixer."""
        if shape.mixer != "attention":
            return mixer_weights(shape)
        return attention_weights(shape, shape.kv_heads)

    def last(self, shape: Shape) -> str | None:
        """Return attention's output projection, or that of another mixer."""
        return {"attention": self.last_map, "linear": "linear"}.get(shape.mixer, "out_proj")

    def cached_heads(self, shape: Shape) -> int:
        """Return the parent's key/value heads; 0 of a mixer that is no attention."""
        return shape.kv_heads if shape.mixer == "attention" else 0

    def attended(self, shape: Shape) -> int | None:
        """Return the parent's window."""
        return shape.window if shape.mixer == "attention" else None

    def state_size(self, shape: Shape, gpus: int = 1) -> StateSize:
        """Return the state of a Mamba2 layer or a delta net."""
        return state_size(shape.state, gpus) if shape.state and self._has_state(shape) else NO_STATE

    def scan_flop(self, shape: Shape, gpus: int = 1) -> int:
        """Return the FLOP of one token's recurrence."""
        return scan_flop(shape.mixer, shape.state, gpus) if shape.state and self._has_state(shape) else 0

    @staticmethod
    def _has_state(shape: Shape) -> bool:
        return shape.mixer in ("mamba2", "delta_net")

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the number of query heads per key/value head; nothing for another mixer, or for none."""
        return {"n_heads_in_group": shape.heads // shape.kv_heads} if shape.mixer == "attention" else {}

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An attention with the parent's heads and no window, or what the parent has in its place."""
        other = entry.get("window_length") is not None or entry.get("num_attention_heads") is not None
        if entry["no_op"] or entry["replace_with_linear"] or other:
            return None
        if shape.mixer != "attention":
            return cls()
        if entry.get("num_attention_heads", shape.heads) != shape.heads:
            return None
        return cls() if shape.heads // int(entry["n_heads_in_group"]) == shape.kv_heads else None


class ParentFfn(_Parent, Ffn):
    """The parent's own FFN, untouched."""

    kind: Literal["parent"] = "parent"
    last_map: ClassVar[str | None] = "down_proj"

    def answers_to(self, word: str, shape: Shape) -> bool:
        """`mlp` matches the parent's dense FFN, too, and `moe` its mixture, by their figures."""
        return (
            word == "parent"
            or word == {"dense": "mlp", "moe": "moe", "linear": "linear", "none": ""}[shape.ffn]
        )

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return the figures of the parent as an `mlp` or a `moe`."""
        known = {"width": self.whole_width(shape), "experts": shape.experts, "top_k": shape.top_k}
        return Fraction(known[field])

    def whole_width(self, shape: Shape) -> int:
        """Return the width of a dense FFN, or of an expert."""
        return shape.expert_width if shape.ffn == "moe" else shape.ffn_width

    def weights(self, shape: Shape) -> Weights:
        """Return the weights of a dense FFN, or of a mixture."""
        match shape.ffn:
            case "dense":
                return ffn_weights(shape, shape.intermediate)
            case "moe":
                return mixture_weights(shape, shape.experts, shape.expert_width)
            case "linear":
                return matrix_weights(shape)
            case "none":
                return {}
            case _:
                assert_never(shape.ffn)

    def counted(self, shape: Shape) -> Iterable[tuple[Weight, int]]:
        """Return one expert's weights with the number of experts."""
        if shape.ffn == "moe":
            return counted_mixture(shape, shape.experts, shape.expert_width)
        return super().counted(shape)

    def routing(self, shape: Shape) -> tuple[int, int]:
        """Return the experts of a mixture and those of one token."""
        return (shape.experts, shape.top_k) if shape.ffn == "moe" else (1, 1)

    def last(self, shape: Shape) -> str | None:
        """Return the down projection, or the matrix in its place."""
        return "linear" if shape.ffn == "linear" else self.last_map

    def channels(self, shape: Shape) -> int:
        """Return the parent's width; of a mixture, over all experts."""
        match shape.ffn:
            case "dense":
                return shape.intermediate
            case "moe":
                return shape.experts * shape.expert_width + shape.shared_width
            case "linear" | "none":
                return 0
            case _:
                assert_never(shape.ffn)

    def block_config(self, shape: Shape) -> dict[str, Any]:
        """Return the width, or the sizes of a mixture; nothing in a layer without an FFN."""
        match shape.ffn:
            case "dense":
                return width_fields(shape.intermediate, shape.hidden)
            case "moe":
                return mixture_fields(shape.experts, shape.top_k, shape.expert_width)
            case "linear" | "none":
                return {}
            case _:
                assert_never(shape.ffn)

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """An FFN of the parent's width, or a mixture of its sizes, or none where the parent has none."""
        if entry["no_op"] or entry["replace_with_linear"]:
            return None
        own = cls().block_config(shape)
        return cls() if all(entry.get(name) == own[name] for name in own if name != "ffn_mult") else None


PARENTS: Mapping[Site, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}


def attention_weights(shape: Shape, kv_heads: int) -> Weights:
    """Return the weights of attention.

    Shapes: q [heads * head_dim, hidden], k, v [kv_heads * head_dim, hidden], o [hidden, heads * head_dim]. Heads are
    split over the GPUs; fewer key/value heads than GPUs are replicated.
    """
    dim = shape.head_dim
    queries, keys = shape.heads * dim, kv_heads * dim
    made = 2 * queries if shape.output_gate else queries
    found = {
        "q_proj.weight": Weight((made, shape.hidden), 0, made // shape.heads),
        "k_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "v_proj.weight": Weight((keys, shape.hidden), 0, dim),
        "o_proj.weight": Weight((shape.hidden, queries), 1, dim),
    }
    if shape.attention_bias:
        found |= {
            "q_proj.bias": Weight((made,), 0, made // shape.heads),
            "k_proj.bias": Weight((keys,), 0, dim),
            "v_proj.bias": Weight((keys,), 0, dim),
        }
    if shape.output_bias:
        found["o_proj.bias"] = Weight((shape.hidden,))
    if shape.qk_norm_whole:
        found |= {"q_norm.weight": Weight((queries,), 0, dim), "k_norm.weight": Weight((keys,), 0, dim)}
    elif shape.qk_norm:
        found |= {"q_norm.weight": Weight((dim,)), "k_norm.weight": Weight((dim,))}
    if shape.sinks:
        found["sinks"] = Weight((shape.heads,), 0)
    return found


def ffn_weights(shape: Shape, width: int, prefix: str = "", *, of_expert: bool = False) -> Weights:
    """Return the weights of an FFN, split by channels: gate (if it has one) and up [width, hidden], down [hidden, width]."""
    into = ("gate_proj", "up_proj") if shape.gated else ("up_proj",)
    found = {f"{name}.weight": Weight((width, shape.hidden), 0, of_expert=of_expert) for name in into}
    found["down_proj.weight"] = Weight((shape.hidden, width), 1, of_expert=of_expert)
    if shape.mlp_bias:
        found |= {f"{name}.bias": Weight((width,), 0, of_expert=of_expert) for name in into}
        found["down_proj.bias"] = Weight((shape.hidden,), of_expert=of_expert)
    return {prefix + name: weight for name, weight in found.items()}


def mixture_weights(shape: Shape, experts: int, width: int) -> Weights:
    """Return the weights of a mixture: the router, whole on every GPU, `experts` FFNs of `width` channels, and shared ones."""
    found = dict(_of_every_token(shape, experts))
    for expert in range(experts):
        found |= ffn_weights(shape, width, f"experts.{expert}.", of_expert=True)
    return found


def counted_mixture(shape: Shape, experts: int, width: int) -> Iterable[tuple[Weight, int]]:
    """Return the weights of `mixture_weights`, one expert's with the number of experts."""
    yield from ((weight, 1) for weight in _of_every_token(shape, experts).values())
    yield from ((weight, experts) for weight in ffn_weights(shape, width, of_expert=True).values())


def _of_every_token(shape: Shape, experts: int) -> Weights:
    """Return the weights of a mixture that every token uses: router and shared experts."""
    found = {"gate.weight": Weight((experts, shape.hidden))}
    if shape.router_bias:
        found["gate.bias"] = Weight((experts,))
    if shape.shared_width:
        found |= ffn_weights(shape, shape.shared_width, "shared_expert.")
    if shape.shared_gate:
        found["shared_expert_gate.weight"] = Weight((1, shape.hidden))
    return found


def width_fields(width: int, hidden: int) -> dict[str, Any]:
    """Return the fields of an FFN's `block_configs` entry.

    `ffn_mult` serves runtimes that do not read `intermediate_size`: they compute int(2 * ffn_mult * H / 3) and round it
    up to a multiple of 256. Another width cannot be expressed so; its entry has no `ffn_mult`, and such a runtime fails
    instead of building the wrong width.
    """
    if width % FFN_MULTIPLE:
        return {"intermediate_size": width}
    return {"ffn_mult": ffn_mult(width, hidden), "intermediate_size": width}


def mixture_fields(experts: int, top_k: int, width: int) -> dict[str, Any]:
    """Return the fields of a mixture's `block_configs` entry."""
    return {"num_experts": experts, "num_experts_per_tok": top_k, "moe_intermediate_size": width}


def ffn_mult(width: int, hidden: int) -> float:
    """Return the smallest float64 at which int(2 * ffn_mult * hidden / 3) equals `width`."""
    multiple = 3 * width / (2 * hidden)
    while int(2 * multiple * hidden / 3) < width:
        multiple = math.nextafter(multiple, math.inf)
    return multiple
