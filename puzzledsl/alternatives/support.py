"""Support of a runtime for an alternative: native, rewritten exactly, or absent; and arguments of alternatives.

A runtime has one or more model architectures: model code with fixed rules about how layers may differ. An architecture
is data, in `puzzledsl.ir.engines`. `Architecture.of_layer` picks the fields about an alternative.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal, Protocol

from puzzledsl.alternatives.shape import Shape
from puzzledsl.alternatives.weights import PARTIAL, Computation
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import BY_KIND, Frozen, Record

MAX_COUNT = 2**53
"""The largest whole number that a setting accepts: JSON readers keep integers up to 2**53 exact."""


class Argument(Record):
    """An argument, for editors and docs. `words` are the words that it takes beside numbers; `default` is Markdown."""

    doc: str
    words: tuple[str, ...] = ()
    default: str = ""


class Arguments(Protocol):
    """The arguments of one call. Its methods report the user's mistakes and return what is valid."""

    shape: Shape  # the parent's, as the layer has it
    failed: bool  # True once a mistake was found

    def need(self, *keys: str, help: str) -> None:
        """Report those of `keys` that are missing."""

    def has(self, key: str) -> bool:
        """Return True if the argument is written."""

    def place(self, key: str) -> Span:
        """Return the span of an argument's value; the span of the call if it is missing."""

    def is_valid(self, key: str) -> bool:
        """Return False once a mistake was found in this argument."""

    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return the whole number of an argument, within bounds; `default` if it is not written."""

    def wholes(
        self,
        key: str,
        low: int = 1,
        high: int | None = None,
        check: Callable[[int, Span], Diagnostic | None] = lambda number, span: None,
        help: str = "",
        absent: int | None = None,
    ) -> list[int]:
        """Return the whole numbers of `a | b` within bounds that `check` has no diagnostic for; 0 for a word of the argument.

        If the argument is not written, return `absent` alone (None: nothing). `help`: a help line for numbers out of bounds.
        """

    def widths(self, key: str, multiple: int, whole: int) -> list[int]:
        """Return the widths of `25% | 4096` in channels, rounded to a multiple. `whole`: channels of 100 %, the most allowed."""

    def refuse(self, key: str, problem: Diagnostic) -> None:
        """Report a mistake in an argument."""

    def affords(self, count: int) -> bool:
        """Return True if `count` alternatives are not too many; else report that they are, and return False."""


Way = Literal[
    "zero_ffn",
    "zero_attention",
    "zero_linear",
    "biased_ffn",
    "extra_layer",
    "pad_width",
    "pad_experts",
    "copy_embedding",
]


class Native(Frozen, kind="native"):
    """The runtime has the alternative."""


class Lowered(Frozen, kind="lowered"):
    """The runtime lacks the alternative; `into` names the form that gives the same outputs and `way` the rewriting."""

    way: Way
    into: str


class Absent(Frozen, kind="absent"):
    """Nothing in the runtime gives the same outputs."""

    reason: str


Support = Annotated[Native | Lowered | Absent, BY_KIND]
NATIVE = Native()
FAMILY = "layers of this family"
NO_MIXTURE = Absent(reason="its layers have no mixtures of experts")


class Architecture(Frozen):
    """Model code of a runtime: support for each way in which a child's layers can differ from its parent's, and each other.

    `families` lists the parents whose layers it has; any other is absent.
    """

    name: str
    source: str
    families: Mapping[str, Support]
    own_modules: bool = False  # it runs sub-blocks of installed packages
    # about the whole model
    untied: Support = NATIVE
    tied: Support = NATIVE
    attention_bias: Support = NATIVE
    mlp_bias: Support = NATIVE
    ropes: tuple[str, ...] | None = None  # scalings of rotary embeddings (`families.registry`); None: all
    other_activation: Support = NATIVE  # another activation of FFNs than the family's usual one
    # about attention
    kv_heads: Support = NATIVE  # another number of key/value heads than the parent's
    heads: Support = NATIVE  # another number of query heads
    window: Support = NATIVE
    other_windows: Support = NATIVE  # a second size of window
    first_tokens: Support = NATIVE  # the first tokens beside a window
    no_attention: Support = NATIVE
    no_first_attention: Support = NATIVE  # all layers before have none
    linear_attention: Support = NATIVE
    # about the FFN
    width: Support = NATIVE
    no_ffn: Support = NATIVE
    linear_ffn: Support = NATIVE
    experts: Support = NO_MIXTURE  # another number of experts than the parent's
    other_top_k: Support = NO_MIXTURE  # a second number of experts of a token
    expert_width: Support = NO_MIXTURE
    fewer_of_all: Support = NATIVE  # mixtures of several counts, whose routers' weights do not add up to 1
    dense_in_mixture: Support = NO_MIXTURE  # a dense FFN where the parent has a mixture
    # about storage types
    precisions: tuple[str, ...] = ()  # of quantised sub-blocks, each its own in one model
    no_precision: str = "its sub-blocks have one type"  # why it lacks the others
    quantised_experts: Support = NATIVE
    caches: tuple[str, ...] = ()  # types of a KV cache, each attention's own in one model
    no_cache: str = "its caches have no type of their own"  # why it lacks the others
    one_cache: bool = False  # all attentions of a model have one
    # how rewriting works
    zero_ffn_width: int = 0  # channels of the FFN of zeros in place of a removed one
    drops_empty_layers: bool = False  # a layer without sub-blocks is left out
    needs_attention: bool = False  # it runs no model without any KV cache
    grouped: bool = False  # its layers each have one attention; those without a cache go inside
    as_family: Literal["llama", "qwen2"] | None = None
    """The family that others are rewritten as, with zero biases where it wants them."""

    def storage(self, dtype: str | None, *, mixture: bool) -> Support:
        """Return the support of a sub-block stored in `dtype`; native for None. `mixture`: it is a mixture of experts."""
        if dtype is None:
            return NATIVE
        if dtype in self.precisions:
            return self.quantised_experts if mixture else NATIVE
        return Absent(reason=f"`{dtype}`: {self.no_precision}")

    def caching(self, cache: str | None) -> Support:
        """Return the support of an attention whose KV cache is stored in the type `cache`; native for None."""
        known = cache is None or cache in self.caches
        return NATIVE if known else Absent(reason=f"a KV cache in `{cache}`: {self.no_cache}")

    def of_layer(self, sub_block: str, shape: Shape, own: Shape, *, first: bool) -> Iterator[Support]:
        """Yield the support of each difference of `own`, a layer with one sub-block, from the parent's layer `shape`."""
        if sub_block == "attention" and own.mixer == "attention":
            yield self.heads if own.heads != shape.heads else NATIVE
            yield self.window if own.window is not None else NATIVE
            yield self.first_tokens if own.window_sinks else NATIVE
            yield self.kv_heads if own.kv_heads != shape.kv_heads else NATIVE
        elif sub_block == "attention" and own.mixer != shape.mixer:
            gone = self.no_first_attention if first else self.no_attention
            yield self.linear_attention if own.mixer == "linear" else gone
        elif own.ffn == "moe":
            yield self.experts if own.experts != shape.experts else NATIVE
            yield self.expert_width if own.expert_width != shape.expert_width else NATIVE
        elif own.ffn == "dense" and shape.ffn == "moe":
            yield self.dense_in_mixture
        elif own.ffn == "dense":
            yield self.width if own.intermediate != shape.intermediate else NATIVE
        elif sub_block == "ffn" and own.ffn != shape.ffn:
            yield self.linear_ffn if own.ffn == "linear" else self.no_ffn

    def of_model(self, shape: Shape, computation: Computation) -> Iterator[tuple[str, Support]]:
        """Yield each property of the whole model that it does not have natively, in words, with its support."""
        absent = Absent(reason=f"none of its architectures for layers that differ has {shape.family} layers")
        ropes = () if self.ropes is None else set(computation.ropes) - set(self.ropes)
        name = computation.activation
        asked = [
            (FAMILY, self.families.get(shape.family, absent)),
            ("tied embeddings", self.tied) if shape.tied else ("a separate output matrix", self.untied),
            ("biases in attention", self.attention_bias if shape.attention_bias else NATIVE),
            ("biases in FFNs", self.mlp_bias if shape.mlp_bias else NATIVE),
            (f"`{name}` in FFNs", self.other_activation if name else NATIVE),
            *((f"`{rope}` rotary embeddings", _other_rope(rope)) for rope in sorted(ropes)),
        ]
        yield from ((what, found) for what, found in asked if found.kind != "native")


def _other_rope(rope: str) -> Absent:
    if rope == PARTIAL:
        return Absent(reason="its rotary embeddings turn whole heads, not parts of them")
    return Absent(reason=f"it is not known to scale rotary embeddings by `{rope}` as the parent does")


def worst(*answers: Support) -> Support:
    """Return the first absent answer, else the first rewritten one, else native."""
    order = ("absent", "lowered", "native")
    return min(answers, key=lambda answer: order.index(answer.kind))
