"""Base classes of the alternatives of a sub-block.

An alternative is a frozen value: its fields are its arguments. Everything the other folders ask of it is a method, with
a default that is right for a module of dense linear maps. Tables, reports and JSON use the canonical names: `parent`,
`gqa4`, `gqa4w8192`, `gqa4w64s4`, `mlp21504`, `moe8k2w1024`, `linear`, `noop`. A storage type follows: `mlp21504@q8_0`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from puzzledsl.alternatives.precision import PRECISIONS, PrecisionName, is_quantised, misfit, scales_of
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.alternatives.state import NO_STATE, StateSize
from puzzledsl.alternatives.support import NATIVE, Absent, Architecture, Argument, Arguments, Support, worst
from puzzledsl.alternatives.weights import Shapes, Size, Stored, Weight, Weights, size_of_weights, split
from puzzledsl.base.frozen import Frozen, left_out

SubBlock = Literal["attention", "ffn"]
SUB_BLOCKS: tuple[SubBlock, ...] = ("attention", "ffn")
EndName = Literal["embedding", "head"]
Site = Literal["attention", "ffn", "embedding", "head"]
"""A place where a search chooses: a sub-block of a layer, or an end of the whole model."""
ENDS: tuple[EndName, ...] = ("embedding", "head")
PREFIXES: Mapping[SubBlock, str] = {"attention": "self_attn", "ffn": "mlp"}
"""Starts of the names of weights in a coupled piece, whatever the family calls its sub-blocks."""
MIXERS = {"mamba2": "Mamba2", "delta_net": "a gated delta net"}
"""Kind of a mixer that is no attention -> its name in sentences."""
Look = Literal["parent", "reduced", "linear", "noop"]
UNCAPPED = Fraction(2**200)
"""Figure of a field without a limit, in comparisons."""


MATRIX = "there is one matrix, which can only stay or become `noop`"
"""Why a sub-block of a parent that is a child has no smaller alternatives."""


def absent(site: Site, shape: Shape) -> str:
    """Return a sentence if a layer of this shape lacks a sub-block; empty if it has it, and for an end of the model."""
    if site in ENDS:
        return ""
    if site == "attention":
        return "there is no attention" if shape.mixer == "none" else ""
    return "there is no FFN" if shape.ffn == "none" else ""


class Alternative(Frozen, ABC):
    """Alternative of a sub-block. A sub-block owns the norm before it, so a no-op removes both."""

    if TYPE_CHECKING:

        @property
        def kind(self) -> str:
            """The word of the language, and the tag in JSON."""

    dtype: PrecisionName | None = left_out(None)
    """Type that the matrices are stored in; None: the parent's, as if the field were not there."""

    sub_block: ClassVar[Site]
    shape_field: ClassVar[Literal["mixer", "ffn"]]
    """Field of a shape with the sub-block's kind."""
    no_size: ClassVar[Mapping[str, None]]
    """Fields of a `block_configs` entry that stay empty without a size."""
    summary: ClassVar[str]
    """One sentence, for editors."""
    arguments: ClassVar[Mapping[str, Argument]] = {}
    positional: ClassVar[int] = 0
    """Number of arguments that can be given without a name."""
    name_pattern: ClassVar[str] = ""
    """Regular expression of the canonical names; empty if the word is the name."""
    initialisers: ClassVar[tuple[str, ...]] = ()
    """Ways to make its weights, the default first: a setting of `init { … }`."""
    writes_default: ClassVar[bool] = False
    """True if JSON has that setting at its default, too; without, pieces keep their ids when it is added."""
    place: ClassVar[int] = 50
    """Its place in the order of documentation."""
    own_weights: ClassVar[bool] = True
    """True if the alternative has weights of its own, whatever type they are stored in."""
    quantisable: ClassVar[bool] = True
    """True if the alternative takes `dtype`."""
    refined: ClassVar[bool] = False
    """True if a least-squares start is refined before training (`plan.refinement`)."""
    last_map: ClassVar[str | None] = None
    """Name of the last linear map inside the module, in whose weight the output is linear; None without one."""
    look: ClassVar[Look] = "reduced"
    """Colour in pictures."""

    @classmethod
    def read(cls, call: Arguments) -> Sequence[Alternative]:
        """Return the alternatives that a call denotes; one equal to the parent's sub-block is `parent`."""
        return [cls()]

    @classmethod
    @abstractmethod
    def unfit(cls, shape: Shape) -> str:
        """Return the reason why no such alternative can stand in a layer of this shape; empty if one can."""

    @property
    def plain_name(self) -> str:
        """Canonical name without a storage type, such as `gqa4w64s4` or `mlp21504`."""
        return self.kind

    @property
    def name(self) -> str:
        """Canonical name within its sub-block, such as `gqa4w64s4`, `mlp21504` or `parent@q8_0`."""
        return self.plain_name if self.dtype is None else f"{self.plain_name}@{self.dtype}"

    @property
    def is_parent(self) -> bool:
        """True for the parent's own module, untouched; a quantised copy of it is a piece."""
        return self.kind == "parent" and self.dtype is None

    @property
    def unquantised(self) -> Self:
        """The alternative with weights in the parent's type."""
        return self if self.dtype is None else self.model_copy(update={"dtype": None})

    def in_precision(self, dtype: str | None) -> Self:
        """Return the alternative with weights in a type of `PRECISIONS`, or in the parent's (None)."""
        return self.model_copy(update={"dtype": dtype}) if self.quantisable else self

    @property
    def trainable(self) -> bool:
        """True if the alternative has weights that are not the parent's."""
        return self.own_weights or self.dtype is not None

    def answers_to(self, word: str, shape: Shape) -> bool:
        """Return True if a pattern with this word matches."""
        return self.kind == word

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the fields that a pattern can test."""
        return tuple(name for name in cls.model_fields if name not in ("kind", "dtype"))

    def figure(self, field: str, shape: Shape) -> Fraction | None:
        """Return a field as patterns compare it; None if the alternative has no such field."""
        value = getattr(self, field, None)
        return Fraction(value) if isinstance(value, int) else None

    def whole_width(self, shape: Shape) -> int:
        """Return the width that percentages in patterns are of."""
        return shape.ffn_width

    @abstractmethod
    def weights(self, shape: Shape) -> Weights:
        """Return the weights by their names inside the sub-block; without the norm before it, which is the parent's."""

    def counted(self, shape: Shape) -> Iterable[tuple[Weight, int]]:
        """Return each weight and its number; a mixture gives one expert's weights with the number of experts."""
        return ((weight, 1) for weight in self.weights(shape).values())

    def size(self, shape: Shape, gpus: int = 1, expert_parallel: int = 1) -> Size:
        """Return the parameters on one of `gpus` GPUs, norm and biases included; `expert_parallel` groups share out experts."""
        return _size(self, shape, gpus, expert_parallel)

    def _stored(self, shape: Shape, gpus: int, expert_parallel: int) -> Stored:
        """Return the type of the matrices and the number of their scales on one GPU."""
        assert self.dtype is not None
        precision, here = PRECISIONS[self.dtype], split(self.routing(shape)[0], expert_parallel)
        always = of_experts = plain = 0
        for name, weight in self.weights(shape).items():
            quantised = is_quantised(name, weight.shape)
            if weight.of_expert and quantised:
                of_experts += scales_of(precision, weight, gpus // expert_parallel)
            elif quantised:
                always += scales_of(precision, weight, gpus)
            elif len(weight.shape) > 1:
                plain += weight.count(gpus)
        return Stored(self.dtype, always, of_experts * here // self.routing(shape)[0], plain)

    def params(self, shape: Shape) -> int:
        """Return the parameters, including biases and the norm."""
        return self.size(shape).params

    def active_params(self, shape: Shape) -> int:
        """Return the parameters that one token uses: all but those of the experts that it leaves out."""
        size = self.size(shape)
        return size.params - size.idle

    def stored(self, shape: Shape) -> Shapes:
        """Return names and shapes of the weights that a piece stores; empty for the parent's sub-block and a no-op."""
        if not self.trainable:
            return {}
        return {name: weight.shape for name, weight in self.weights(shape).items()}

    def routing(self, shape: Shape) -> tuple[int, int]:
        """Return the number of experts and the number that one token uses."""
        return 1, 1

    def query_heads(self, shape: Shape) -> int:
        """Return the heads that score keys and weigh values; 0 without a cache."""
        return shape.heads if self.cached_heads(shape) else 0

    def cached_heads(self, shape: Shape) -> int:
        """Return the key/value heads with a cache; 0 without one."""
        return 0

    def last(self, shape: Shape) -> str | None:
        """Return the name of the last linear map in a layer of this shape."""
        return self.last_map

    def attended(self, shape: Shape) -> int | None:
        """Return the most tokens that a token attends to: the shorter of the parent's window and its own. None: no cap."""
        return None

    def state_size(self, shape: Shape, gpus: int = 1) -> StateSize:
        """Return the numbers that a sequence keeps in place of a cache, on the most loaded GPU."""
        return NO_STATE

    def scan_flop(self, shape: Shape, gpus: int = 1) -> int:
        """Return the FLOP of one token's recurrence on the most loaded GPU, beside the linear maps."""
        return 0

    def channels(self, shape: Shape) -> int:
        """Return the intermediate channels of an FFN, over all experts."""
        return 0

    def initialiser(self, init: Initialisers) -> str:
        """Return the method that initialises the weights, `init { … }` where there are several; `none` without weights."""
        if self.initialisers:
            return str(getattr(init, self.kind))
        return "least_squares" if self.own_weights else "none"

    def is_solved(self, initialiser: str) -> bool:
        """Return True if the initial weights are the optimum already, so that training cannot improve them."""
        return False

    def kept(self, shape: Shape, parent_params: int) -> float:
        """Return the share of the parent's sub-block that is kept, as the shade in pictures."""
        return self.params(shape) / parent_params

    def misfit(self, shape: Shape) -> str:
        """Return the reason why the weights cannot be stored in the type `dtype`; empty if they can."""
        if self.dtype is None:
            return ""
        if self.sub_block == "attention" and shape.mixer in MIXERS and self.kind == "parent":
            return f"the mixer there is {MIXERS[shape.mixer]}, whose weights stay as they are"
        shapes = ((name, weight.shape) for name, weight in self.weights(shape).items())
        return misfit(PRECISIONS[self.dtype], shapes)

    def support(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return an architecture's support; `first`: no attention below. By default only transformers has the module."""
        return NATIVE if engine.own_modules else Absent(reason=f"it has no `{self.kind}` sub-blocks")

    def served(self, engine: Architecture, shape: Shape, *, first: bool) -> Support:
        """Return an architecture's support of the alternative and of the type that it is stored in, as `support` does."""
        mixture = self.routing(shape) != (1, 1)
        return worst(engine.storage(self.dtype, mixture=mixture), self.support(engine, shape, first=first))

    def block_config(self, shape: Shape) -> dict[str, Any] | None:
        """Return the fields of a DeciLM / nemotron-nas `block_configs` entry; None without a module."""
        arguments = self.model_dump(mode="json", exclude={"kind"})
        return {"module": self.kind, "arguments": arguments}

    @classmethod
    def from_block_config(cls, entry: Mapping[str, Any], shape: Shape) -> Self | None:
        """Return the alternative of an entry; None if it is another's."""
        return cls.model_validate(entry["arguments"]) if entry.get("module") == cls.kind_of() else None

    @classmethod
    def kind_of(cls) -> str:
        """Return the word of the language."""
        return str(cls.model_fields["kind"].default)

    def in_parent(self, shape: Shape) -> dict[str, Any] | None:
        """Return the LAYER_FIELDS that change if the child is a parent; None for an alternative that no parent can have."""
        return None

    def on_base(self, shape: Shape, base: Shape) -> Alternative:
        """Return the alternative of the same module for the layer `base` of the family that the parent, a child, came from."""
        return self


class Attention(Alternative):
    """Alternative of an attention."""

    sub_block: ClassVar[Literal["attention"]] = "attention"
    shape_field: ClassVar[Literal["mixer", "ffn"]] = "mixer"
    no_size: ClassVar[Mapping[str, None]] = {}

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """By default only an attention can be replaced."""
        if shape.mixer in MIXERS:
            return (
                f"the mixer there is {MIXERS[shape.mixer]}, which can only stay or become `linear` or `noop`"
            )
        if shape.mixer == "linear":
            return MATRIX
        return absent("attention", shape)


class Ffn(Alternative):
    """Alternative of an FFN."""

    sub_block: ClassVar[Literal["ffn"]] = "ffn"
    shape_field: ClassVar[Literal["mixer", "ffn"]] = "ffn"
    no_size: ClassVar[Mapping[str, None]] = {"ffn_mult": None}

    @classmethod
    def unfit(cls, shape: Shape) -> str:
        """By default only a dense FFN can be replaced."""
        if shape.ffn == "linear":
            return MATRIX
        return "the FFN there is a mixture of experts" if shape.ffn == "moe" else absent("ffn", shape)


@functools.lru_cache(maxsize=4096)  # layers are much alike
def _size(of: Alternative, shape: Shape, gpus: int, expert_parallel: int) -> Size:
    norms = shape.norms * shape.hidden
    size = size_of_weights(of.counted(shape), norms, of.routing(shape), gpus, expert_parallel)
    return size if of.dtype is None else replace(size, stored=of._stored(shape, gpus, expert_parallel))
