"""Base classes of the alternatives of a sub-block.

An alternative is a frozen value: its fields are its arguments. Weights, costs, figures in patterns, runtimes and the entry in a
checkpoint follow from the layer that it makes of the parent's (`changes`). Tables, reports and JSON use the canonical names:
`parent`, `gqa4`, `gqa4w8192`, `gqa4w64s4`, `mlp21504`, `moe8k2w1024`, `linear`, `noop`; a storage type follows, and the type of a
KV cache: `mlp21504@q8_0`, `gqa4@q8_0@kv_fp8`.
"""

from __future__ import annotations

import functools
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, Self

from puzzledsl.alternatives.precision import (
    CACHES,
    KV,
    PRECISIONS,
    CacheName,
    PrecisionName,
    is_quantised,
    misfit,
    scales_of,
)
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.alternatives.support import NATIVE, Absent, Architecture, Argument, Arguments, Support, worst
from puzzledsl.alternatives.weights import (
    Shapes,
    Size,
    Stored,
    Weights,
    counted_weights,
    layer_weights,
    size_of_weights,
    split,
)
from puzzledsl.base.frozen import Frozen, left_out

SubBlock = Literal["attention", "ffn"]
SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
EndName = Literal["embedding", "head"]
Site = Literal["attention", "ffn", "embedding", "head"]
"""A place where a search chooses: a sub-block of a layer, or an end of the whole model."""
ENDS: tuple[EndName, ...] = ("embedding", "head")
PREFIXES: Mapping[SubBlock, str] = {"attention": "self_attn", "ffn": "mlp"}
"""Starts of the names of weights in a coupled piece, whatever the family calls its sub-blocks."""
KIND_FIELDS: Mapping[str, Literal["mixer", "ffn"]] = {"attention": "mixer", "ffn": "ffn"}
"""Sub-block -> the field of a shape with its kind."""
MIXERS = {"mamba2": "Mamba2", "delta_net": "a gated delta net"}
"""Kind of a mixer that is no attention -> its name in sentences."""
Look = Literal["parent", "reduced", "linear", "noop"]
UNCAPPED = Fraction(2**200)  # figure of a field without a limit, in comparisons
ANY_KIND = ("attention", *MIXERS, "dense", "moe", "linear")  # kinds of sub-blocks that a layer has
_UNFIT = {
    **{
        kind: f"the mixer there is {name}, which can only stay or become `linear` or `noop`"
        for kind, name in MIXERS.items()
    },
    "moe": "the FFN there is a mixture of experts",
    "dense": "the FFN there is dense, and no mixture is made of one",
    "linear": "there is one matrix, which can only stay or become `noop`",
}
"""Kind of a sub-block -> the reason why an alternative that does not replace it cannot stand there."""
_SAME_AS_PARENT = {"attention": "gqa", "dense": "mlp", "moe": "moe", "linear": "linear"}
"""Kind of the parent's sub-block -> the word of the alternatives that are like it."""
LAST_MAPS = ("o_proj", "out_proj", "down_proj", "linear")
"""Names of the last linear maps in families' modules, in whose weight the output is linear."""


def absent(site: Site, shape: Shape) -> str:
    """Return a sentence if a layer of this shape lacks a sub-block; empty if it has it, and for an end of the model."""
    if site in ENDS or getattr(shape, KIND_FIELDS[site]) != "none":
        return ""
    return "there is no attention" if site == "attention" else "there is no FFN"


class Alternative(Frozen, ABC):
    """Alternative of a sub-block, which owns the norm before it: a no-op removes both. Its `kind` is the language's word."""

    dtype: PrecisionName | None = left_out(None)
    """Type that the matrices are stored in; None: the parent's, as if the field were not there."""

    sub_block: ClassVar[Site]
    summary: ClassVar[str]  # one sentence, for editors
    arguments: ClassVar[Mapping[str, Argument]] = {}
    positional: ClassVar[int] = 0  # number of arguments that can be given without a name
    name_pattern: ClassVar[str] = ""
    """Regular expression of the canonical names; empty if the word is the name."""
    replaces: ClassVar[tuple[str, ...]] = ()  # kinds of the parent's sub-block in whose place it can stand
    initialisers: ClassVar[tuple[str, ...]] = ()
    """Ways to make its weights, the default first: a setting of `init { … }`."""
    writes_default: ClassVar[bool] = False
    """True if JSON has that setting at its default, too. If False, adding the setting leaves the ids of pieces as they were."""
    solved_by: ClassVar[str] = ""
    """The initialiser whose weights are the optimum already, so that training cannot improve them; empty if there is none."""
    place: ClassVar[int] = 50  # its place in the order of documentation
    in_families: ClassVar[bool] = False
    """True if model families have such layers, so that `changes` describes it in full; False for a module of its own."""
    own_weights: ClassVar[bool] = True
    """True if the alternative has weights of its own, whatever type they are stored in."""
    removes: ClassVar[bool] = False  # True if nothing is left of the sub-block: neither weights nor its norm
    quantisable: ClassVar[bool] = True  # True if the alternative takes `dtype`
    has_cache: ClassVar[bool] = False  # True if the alternative takes `kv_cache`
    refined: ClassVar[bool] = False
    """True if a least-squares start is refined before training (`plan.refinement`)."""
    last_maps: ClassVar[tuple[str, ...]] = LAST_MAPS
    """Names that the last linear map inside the module may have, in whose weight the output is linear."""
    look: ClassVar[Look] = "reduced"  # colour in pictures

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return the alternatives that a call denotes; one equal to the parent's sub-block is `parent`."""
        return [cls()]

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """Return the reason why no such alternative can stand in a layer of this shape; empty if one can."""
        kind = getattr(shape, KIND_FIELDS[cls.sub_block])
        return "" if kind in cls.replaces else absent(cls.sub_block, shape) or _UNFIT[kind]

    @property
    def plain_name(self) -> str:
        """Canonical name without a storage type, such as `gqa4w64s4` or `mlp21504`."""
        return str(self.kind)

    @property
    def name(self) -> str:
        """Canonical name within its sub-block, such as `gqa4w64s4`, `mlp21504`, `parent@q8_0` or `parent@kv_fp8`."""
        cache = None if self.cache is None else f"{KV}{self.cache}"
        return "@".join(filter(None, (self.plain_name, self.dtype, cache)))

    @property
    def cache(self) -> CacheName | None:
        """Type of the KV cache; None without a type of its own."""
        return getattr(self, "kv_cache", None)

    @property
    def keeps_weights(self) -> bool:
        """True if the weights are the parent's own; a quantised copy of them is a piece."""
        return self.kind == "parent" and self.dtype is None

    @property
    def is_parent(self) -> bool:
        """True for the parent's own module, untouched."""
        return self.keeps_weights and self.cache is None

    def in_precision(self, dtype: str | None) -> Self:
        """Return the alternative with weights in a type of `PRECISIONS`, or the parent's (None); itself if not `quantisable`."""
        return self.model_copy(update={"dtype": dtype}) if self.quantisable and dtype != self.dtype else self

    @property
    def trainable(self) -> bool:
        """True if the alternative has weights that are not the parent's."""
        return self.own_weights or self.dtype is not None

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the fields that a pattern can test."""
        return tuple(name for name in cls.model_fields if name not in ("kind", "dtype", "kv_cache"))

    def changes(self, shape: Shape) -> dict[str, Any] | None:
        """Return the LAYER_FIELDS that it changes in a parent's layer of this shape; None if it makes no known kind of layer."""
        return None

    def alone(self, shape: Shape) -> Shape:
        """Return the layer with this sub-block and no other, for its figures: heads, window, experts, channels, state."""
        return _alone(self, shape)

    def weights(self, shape: Shape) -> Weights:
        """Return the weights by their names inside the sub-block; without the norm before it, which is the parent's."""
        return layer_weights(self.alone(shape))

    def size(self, shape: Shape, gpus: int = 1, expert_parallel: int = 1) -> Size:
        """Return the parameters on one of `gpus` GPUs, norm and biases included; `expert_parallel` groups share out experts."""
        return _size(self, shape, gpus, expert_parallel)

    def params(self, shape: Shape) -> int:
        """Return the parameters, including biases and the norm."""
        return self.size(shape).params

    def stored(self, shape: Shape) -> Shapes:
        """Return names and shapes of the weights that a piece stores; empty for the parent's sub-block and a no-op."""
        if not self.trainable:
            return {}
        return {name: weight.shape for name, weight in self.weights(shape).items()}

    def answers_to(self, word: str, shape: Shape) -> bool:
        """Return True if a pattern with this word matches; a parent's sub-block also has the word of its kind, such as `gqa`."""
        if self.kind != "parent" or word == "parent" or self.sub_block in ENDS:
            return bool(word == self.kind)
        return word == _SAME_AS_PARENT.get(getattr(shape, KIND_FIELDS[self.sub_block]))

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return a field as patterns compare it; None if the alternative has no such field."""
        alone = self.alone(shape)
        if self.changes(shape) is None or field not in alone.figures:
            value = getattr(self, field, None)
            return Fraction(value) if isinstance(value, int) else None
        return Fraction(alone.figures[field] or (UNCAPPED if field == "window" else 0))

    def initialiser(self, init: Initialisers) -> str:
        """Return the name of the method that makes the weights, as `init` says if there is a choice; `none` without weights."""
        if self.initialisers:
            return str(getattr(init, self.kind))
        return "least_squares" if self.own_weights else "none"

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return the support of `engine` in a layer of this shape. `first`: no layer below has attention."""
        if self.in_families:
            return worst(NATIVE, *engine.of_layer(self.sub_block, shape, self.alone(shape), first=first))
        return NATIVE if engine.own_modules else Absent(reason=f"it has no `{self.kind}` sub-blocks")


class Attention(Alternative):
    """Alternative of an attention."""

    kv_cache: CacheName | None = left_out(None)
    """Type of the KV cache; None: as the hardware says, unrounded in scores."""

    sub_block: ClassVar[Literal["attention"]] = "attention"
    replaces: ClassVar[tuple[str, ...]] = ("attention",)

    @property
    def of_piece(self) -> Self:
        """The alternative as its piece has it: without the type of its cache."""
        return self.in_cache(None)

    def in_cache(self, cache: CacheName | None) -> Self:
        """Return the alternative with keys and values stored in a type of `CACHES`, or as the hardware says (None)."""
        return self if cache == self.kv_cache else self.model_copy(update={"kv_cache": cache})


class Ffn(Alternative):
    """Alternative of an FFN."""

    sub_block: ClassVar[Literal["ffn"]] = "ffn"
    replaces: ClassVar[tuple[str, ...]] = ("dense",)


def served(alternative: Alternative, engine: Architecture, shape: Shape, *, first: bool) -> Support:
    """Return an architecture's support of an alternative and of the types that it is stored in, as `support` does."""
    mixture = alternative.alone(shape).routing != (1, 1)
    storage = engine.storage(alternative.dtype, mixture=mixture), engine.caching(alternative.cache)
    return worst(*storage, alternative.support(engine, shape, first=first))


def storage_misfit(alternative: Alternative, shape: Shape) -> str:
    """Return the reason why the weights, or keys and values, cannot be stored in their type; empty if they can."""
    own = alternative.alone(shape)
    if alternative.dtype is not None:
        if own.mixer in MIXERS:
            return f"the mixer there is {MIXERS[own.mixer]}, whose weights stay as they are"
        shapes = ((name, weight.shape) for name, weight in alternative.weights(shape).items())
        if why := misfit(PRECISIONS[alternative.dtype], shapes):
            return why
    if alternative.cache is None:
        return ""
    if not own.cached_heads:
        mixer = MIXERS.get(own.mixer, "a matrix")
        return absent("attention", shape) or f"{mixer} there keeps no keys and values"
    group = CACHES[alternative.cache].group
    parted = f"heads have {own.head_dim} channels, which are no whole groups of {group}"
    return parted if own.head_dim % group else ""


@functools.lru_cache(maxsize=1 << 14)  # layers are much alike
def _alone(of: Alternative, shape: Shape) -> Shape:
    own = KIND_FIELDS.get(of.sub_block)
    changed = of.changes(shape)
    gone = [field for field in KIND_FIELDS.values() if field != own or changed is None]
    fields: dict[str, Any] = {"by_layer": (), "base": None} | (changed or {}) | dict.fromkeys(gone, "none")
    return replace(shape, **fields)


@functools.lru_cache(maxsize=4096)
def _size(of: Alternative, shape: Shape, gpus: int, expert_parallel: int) -> Size:
    own = of.alone(shape)
    norms = shape.norms * shape.hidden if of.sub_block in SUB_BLOCKS else 0
    counted = counted_weights(own) if of.in_families else [(w, 1) for w in of.weights(shape).values()]
    size = size_of_weights(counted, norms, own.routing, gpus, expert_parallel)
    return size if of.dtype is None else replace(size, stored=_stored(of, shape, gpus, expert_parallel))


def _stored(of: Alternative, shape: Shape, gpus: int, expert_parallel: int) -> Stored:
    """Return the type of the matrices and the number of their scales on one GPU."""
    assert of.dtype is not None
    experts, _ = of.alone(shape).routing
    precision, here = PRECISIONS[of.dtype], split(experts, expert_parallel)
    always = of_experts = plain = 0
    for name, weight in of.weights(shape).items():
        quantised = is_quantised(name, weight.shape)
        if weight.of_expert and quantised:
            of_experts += scales_of(precision, weight, gpus // expert_parallel)
        elif quantised:
            always += scales_of(precision, weight, gpus)
        elif len(weight.shape) > 1:
            plain += weight.count(gpus)
    return Stored(of.dtype, always, of_experts * here // experts, plain)
