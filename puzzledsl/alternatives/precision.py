"""Storage types of a quantised sub-block, with a scale for each group of numbers; types of a KV cache.

`q8_0`, `q5_0`, `q4_1`, `q4_0`, `iq4_nl` are llama.cpp's (ggml-quants.c): blocks of 32 numbers of a row share a float16 scale.
Those of `q4_1` share a float16 minimum, too, which codes count from. The values of `iq4_nl` are denser near zero.
`int8`, `int4` and `fp8` are those of compressed-tensors, which transformers and vLLM read: `int8` and `fp8` have a scale for each
row, `int4` for groups of 128 numbers (or of 64 or 32, where rows are not whole groups). Only weights are quantised: matrices
are multiplied in the type of activations.

An engine stores the keys and values of an attention, after rotary embedding, in the type of its cache. It belongs to one
attention and changes none of its weights: `parent@kv_fp8` has the parent's own. `models.families.rounded_cache` rounds so.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal

from puzzledsl.alternatives.weights import Weight
from puzzledsl.base.diagnostics import Mistake
from puzzledsl.base.frozen import Record

PrecisionName = Literal["q8_0", "q5_0", "q4_1", "q4_0", "iq4_nl", "int8", "int4", "fp8"]
FULL = "full"  # the word for the parent's own type in a choice of types
UNQUANTISED = ("gate.weight", "shared_expert_gate.weight")
"""Matrices that stay as they are: routers, which choose by small differences."""
WIDTH = "down_proj.weight"
"""Matrix whose rows are as long as an FFN is wide; a GGUF file has more channels, of zeros, where blocks need them."""


IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The values of `iq4_nl` (ggml-common.h: kvalues_iq4nl)."""


PrecisionDoesNotFit = Mistake(
    "E0225",
    "`{name}` cannot be stored as `{dtype}` ({layers}): {why}",
    "`int8` and `fp8` have a scale for each row, of any length",
)


class Precision(Record):
    """A storage type. `low` and `high` bound the whole numbers of a code; both are 0 for a floating type."""

    name: PrecisionName
    title: str
    bits: int
    low: int
    high: int
    groups: tuple[int, ...]
    """Numbers of a row that share a scale: the first that divides the row; empty: the whole row."""
    format: Literal["gguf", "compressed"]
    levels: tuple[int, ...] = ()  # the values of codes that are not evenly spaced, ascending
    minimum: bool = False  # True if a number is scale * code + minimum, of a group

    @property
    def scale_bytes(self) -> int:
        """Bytes of a group's scale, and of its minimum if it has one."""
        return 4 if self.minimum else 2

    def group(self, columns: int) -> int | None:
        """Return how many numbers share a scale in rows of `columns` numbers; None if such rows cannot be stored.

        In a GGUF file's types that have a zero, the last group of a row may be a part: files fill it up with zeros.
        """
        if not self.groups:
            return columns
        return next((size for size in self.groups if columns % size == 0 or self.is_filled_up), None)

    @property
    def is_filled_up(self) -> bool:
        """Return True if files fill rows up with zeros to whole groups: a GGUF file's types whose groups all have a zero."""
        return self.format == "gguf" and not self.levels and not self.minimum


PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("q8_0", "llama.cpp's 8 bits", 8, -127, 127, (32,), "gguf"),
        Precision("q5_0", "llama.cpp's 5 bits", 5, -16, 15, (32,), "gguf"),
        Precision("q4_1", "llama.cpp's 4 bits, with a minimum", 4, 0, 15, (32,), "gguf", minimum=True),
        Precision("q4_0", "llama.cpp's 4 bits", 4, -8, 7, (32,), "gguf"),
        Precision("iq4_nl", "llama.cpp's 4 bits, uneven", 4, -127, 113, (32,), "gguf", levels=IQ4_NL),
        Precision("int8", "8-bit whole numbers", 8, -128, 127, (), "compressed"),
        Precision("int4", "4-bit whole numbers", 4, -8, 7, (128, 64, 32), "compressed"),
        Precision("fp8", "8-bit floats (e4m3)", 8, 0, 0, (), "compressed"),
    )
}
"""Storage types by the word of the language, in the order of documentation."""


def is_quantised(name: str, shape: tuple[int, ...]) -> bool:
    """Return True for a weight, by its name inside the sub-block, that a storage type applies to: all matrices but routers."""
    return len(shape) == 2 and name not in UNQUANTISED


def scales_of(precision: Precision, weight: Weight, gpus: int) -> int:
    """Return the number of scales of a matrix's part on the most loaded of `gpus`."""
    numbers, columns = weight.count(gpus), weight.shape[-1]
    if weight.split == len(weight.shape) - 1:
        columns = numbers // (weight.count(1) // columns)
    group = precision.group(weight.shape[-1]) or weight.shape[-1]
    return numbers // columns * -(-columns // group)


def misfit(precision: Precision, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> str:
    """Return the reason why matrices of these names and shapes cannot be stored so; empty if they can."""
    for name, shape in shapes:
        if not is_quantised(name, shape) or not precision.groups:
            continue
        padded = precision.is_filled_up and name.endswith(WIDTH)
        if not padded and shape[-1] % precision.groups[-1]:
            return f"rows of `{name}` have {shape[-1]:,} numbers, which are no whole groups of {precision.groups[-1]}"
    return ""


CacheName = Literal["fp8", "q8_0"]
KV = "kv_"  # start of a cache's type in the name of an alternative
UNROUNDED = ("full", "bf16", "fp16", "tf32", "fp32", "fp64")
"""Words of a hardware's `kv_cache` for types that hold what engines compute."""


class CacheType(Record):
    """A type of a KV cache. `bytes`: of one number, scales included. `group`: how many numbers of a head share a scale.

    `flags`: by runtime, the options that store all caches in the type; a runtime without an entry lacks it.
    """

    name: CacheName
    title: str
    bytes: Fraction
    group: int
    flags: Mapping[str, str]


CACHES: Mapping[str, CacheType] = {
    cache.name: cache
    for cache in (
        CacheType("fp8", "8-bit floats (e4m3), unscaled", Fraction(1), 1, {"vllm": "--kv-cache-dtype fp8"}),
        CacheType(
            "q8_0", "llama.cpp's 8 bits", Fraction(34, 32), 32, {"llama_cpp": "-ctk q8_0 -ctv q8_0 -fa on"}
        ),
    )
}
"""Types by the word of the language, in the order of documentation."""
SKIPPED = {"vllm": "--kv-cache-dtype-skip-layers"}
"""Runtime -> the option that names the layers whose caches stay as they are. Others have one type for all layers."""


class ServedCaches(Record):
    """KV caches of a child in a runtime: the type that caches are rounded to (None: none is), but in the layers `kept`."""

    runtime: str
    cache: str | None = None
    kept: tuple[int, ...] = ()

    @property
    def flags(self) -> str:
        """The runtime's options for these caches; empty if none is rounded."""
        if self.cache is None:
            return ""
        skipped = [SKIPPED[self.runtime], *map(str, self.kept)] if self.kept else []
        return " ".join([CACHES[self.cache].flags[self.runtime], *skipped])

    @property
    def request(self) -> dict[str, object]:
        """The same as fields of a request to the runtime's engine (`export/engines/worker.py`); empty if none is rounded."""
        return {} if self.cache is None else {"cache": self.cache, "kept": [*map(str, self.kept)]}
