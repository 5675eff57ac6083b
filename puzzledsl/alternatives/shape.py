"""Architecture of a parent, layer by layer, and the initialisers of its alternatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from puzzledsl.base.frozen import Frozen, left_out

Mixer = Literal["attention", "mamba2", "delta_net", "linear", "none"]
"""Kind of a layer's token mixer, its sub-block `attention`. `linear`: one matrix, in a parent that is a child itself."""
Channels = Literal["dense", "moe", "linear", "none"]  # kind of a layer's channel mixer, its sub-block `ffn`


class StateShape(Frozen):
    """Sizes of a mixer that keeps a state in place of a cache: Mamba2, or a gated delta net."""

    heads: int  # of values
    head_dim: int  # channels of a value head
    groups: int  # Mamba2: groups that share B and C; delta net: key heads
    state: int  # Mamba2: state channels; delta net: channels of a key head
    conv: int  # taps of the causal convolution


_AS_THE_REST: Any = object()  # the value of a field that is not set


def _alike() -> Any:
    unset = {"exclude_if": lambda value: value is _AS_THE_REST}
    return field(default_factory=lambda: _AS_THE_REST, metadata=unset)


class LayerShape(Frozen):
    """A group of layers that differ alike from the rest of their parent: indices, and the fields that differ, no others set."""

    layers: tuple[int, ...]
    heads: int = _alike()
    kv_heads: int = _alike()
    head_dim: int = _alike()
    intermediate: int = _alike()
    window: int | None = _alike()
    window_sinks: int = _alike()
    mixer: Mixer = _alike()
    ffn: Channels = _alike()
    experts: int = _alike()
    top_k: int = _alike()
    expert_width: int = _alike()
    shared_width: int = _alike()
    rope: bool = _alike()
    state: StateShape | None = _alike()

    def changes(self) -> dict[str, Any]:
        """Return the fields that are set, without the layers."""
        return {name: value for name, value in self if name != "layers" and value is not _AS_THE_REST}


LAYER_FIELDS = tuple(name for name in LayerShape.model_fields if name != "layers")
"""Fields of a shape that layers can differ in."""
FIELDS_OF: Mapping[str, tuple[str, ...]] = {
    "attention": ("mixer", "heads", "kv_heads", "head_dim", "window", "window_sinks", "rope", "state"),
    "ffn": ("ffn", "intermediate", "experts", "top_k", "expert_width", "shared_width"),
}
"""Sub-block -> those of LAYER_FIELDS that say what it is like."""


class Shape(Frozen):
    """A parent's architecture: most layers', and in `by_layer` how others differ (see `at`). head_dim is a number of its own."""

    family: str  # "llama", "qwen3_moe", …: see puzzledsl.families
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    attention_bias: bool = False  # q, k, v biases
    output_bias: bool = False  # o_proj bias
    mlp_bias: bool = False  # of an FFN, of experts
    qk_norm: bool = False
    window: int | None = None  # tokens that an attention sees at most, itself included (None: all)
    window_sinks: int = left_out(0)  # tokens of a window that are the sequence's first
    mixer: Mixer = left_out("attention")
    ffn: Channels = left_out("dense")
    experts: int = left_out(0)
    top_k: int = left_out(0)  # experts of a token
    expert_width: int = left_out(0)
    shared_width: int = left_out(0)  # channels that a mixture uses for every token, over all shared experts
    shared_gate: bool = left_out(False)  # a sigmoid scales what the shared experts give
    router_bias: bool = left_out(False)
    gated: bool = left_out(True)  # FFN and experts multiply by a gate
    sinks: bool = left_out(False)  # each head has a logit of no token
    rope: bool = left_out(True)  # False: attention without rotary embedding
    qk_norm_whole: bool = left_out(False)  # one norm over all heads, not one a head
    norms: Literal[1, 2] = left_out(1)  # norm vectors of a sub-block: one before it or behind it, or both
    output_gate: bool = left_out(False)  # q_proj makes a gate of attention's output, too
    delta_maps: Literal[2, 4] = left_out(2)  # input maps of a delta net (`weights.mixer_weights`)
    state: StateShape | None = left_out(None)
    by_layer: tuple[LayerShape, ...] = left_out(())
    base: Shape | None = left_out(None)  # of a parent that is a child: the layers that its family had before

    @property
    def each(self) -> tuple[Shape, ...]:
        """The shape as each layer has it; alike layers share one object."""
        return self._of_layers if self.by_layer or self.base else (self,) * self.layers

    @cached_property
    def _of_layers(self) -> tuple[Shape, ...]:
        rest = replace(self, by_layer=(), base=None)
        found = [rest] * self.layers
        for group in self.by_layer:
            own = replace(rest, **group.changes())
            for layer in group.layers:
                found[layer] = own
        if self.base is None:
            return tuple(found)
        alike: dict[tuple[int, int], Shape] = {}
        for own, base in zip(found, self.base.each, strict=True):
            if (id(own), id(base)) not in alike:
                alike[id(own), id(base)] = replace(own, base=base)
        return tuple(alike[id(own), id(base)] for own, base in zip(found, self.base.each, strict=True))

    def at(self, layer: int) -> Shape:
        """Return the shape as one layer has it. Raises IndexError beyond the layers."""
        return self.each[layer]

    def kinds(self) -> Iterator[tuple[Shape, tuple[int, ...]]]:
        """Yield each distinct layer's shape with the indices of its layers, in the order of the first of them."""
        if self.layers and not self.by_layer and self.base is None:
            yield self, tuple(range(self.layers))
            return
        found: dict[int, list[int]] = {}
        for layer, own in enumerate(self.each):
            found.setdefault(id(own), []).append(layer)
        for layers in found.values():
            yield self.each[layers[0]], tuple(layers)

    @cached_property
    def kind_of_each(self) -> tuple[int, ...]:
        """The number of each layer's kind, from 0 in the order of `kinds`."""
        found = {layer: kind for kind, (_, layers) in enumerate(self.kinds()) for layer in layers}
        return tuple(found[layer] for layer in range(self.layers))

    def kinds_of(self, sub_block: str) -> Iterator[tuple[Shape, tuple[int, ...]]]:
        """Yield each group of layers that are alike in one sub-block, as `kinds` does: a shape of the group, and its indices."""
        found: dict[object, tuple[Shape, list[int]]] = {}
        for own, layers in self.kinds():
            key = tuple(getattr(own, name) for name in FIELDS_OF[sub_block])
            found.setdefault(key, (own, []))[1].extend(layers)
        for own, indices in found.values():
            yield own, tuple(sorted(indices))

    @property
    def query_heads(self) -> int:
        """The number of query heads; 0 if the mixer is not attention."""
        return self.heads if self.mixer == "attention" else 0

    @property
    def cached_heads(self) -> int:
        """The number of key/value heads, all of them cached; 0 if the mixer is not attention."""
        return self.kv_heads if self.mixer == "attention" else 0

    @property
    def attended(self) -> int | None:
        """The most tokens that a token attends to; None: no cap, or the mixer is not attention."""
        return self.window if self.mixer == "attention" else None

    @property
    def routing(self) -> tuple[int, int]:
        """The number of experts and the number that one token uses; (1, 1) if the FFN is not a mixture."""
        return (self.experts, self.top_k) if self.ffn == "moe" else (1, 1)

    @property
    def channels(self) -> int:
        """The intermediate channels of the FFN; of a mixture, over all experts, shared ones too."""
        every = self.experts * self.expert_width + self.shared_width
        return {"dense": self.intermediate, "moe": every, "linear": 0, "none": 0}[self.ffn]

    @property
    def figures(self) -> dict[str, int | None]:
        """The figures of the layer that patterns compare, by the arguments of `gqa`, `mlp` and `moe`."""
        return {
            "kv_heads": self.kv_heads,
            "heads": self.heads,
            "sinks": self.window_sinks,
            "window": self.attended,
            "experts": self.experts,
            "top_k": self.top_k,
            "width": self.expert_width if self.ffn == "moe" else self.ffn_width,
        }

    @property
    def ffn_width(self) -> int:
        """The channels that one token uses: those of a dense FFN, or of a mixture's active and shared experts."""
        used = self.top_k * self.expert_width + self.shared_width
        return {"dense": self.intermediate, "moe": used, "linear": 0, "none": 0}[self.ffn]

    def with_layers(self, layers: Sequence[Mapping[str, Any]]) -> Shape:
        """Return the shape with these LAYER_FIELDS, given layer by layer: the commonest as its own, others in `by_layer`."""
        drafts = [tuple(sorted(layer.items(), key=lambda item: item[0])) for layer in layers]
        common = dict(Counter(drafts).most_common(1)[0][0])
        groups: dict[tuple[tuple[str, Any], ...], list[int]] = {}
        for index, draft in enumerate(drafts):
            different = tuple((name, value) for name, value in draft if value != common[name])
            if different:
                groups.setdefault(different, []).append(index)
        by_layer = tuple(LayerShape(layers=tuple(where), **dict(what)) for what, where in groups.items())
        return replace(self, **{**common, "layers": len(layers), "by_layer": by_layer})


class Initialisers(Frozen):
    """Initialisation of alternatives."""

    # in front of it the registry puts a field for each alternative that has several `initialisers`
    quantise: Literal["gptq", "nearest"] = left_out("gptq")  # rounding to a storage type

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> str: ...
