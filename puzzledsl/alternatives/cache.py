"""Types of a KV cache: what an engine stores the keys and values of an attention in, after rotary embedding.

A type belongs to one attention and changes none of its weights: `parent@kv_fp8` has the parent's own, `gqa4@kv_fp8` the piece of
`gqa4`. Scores, costs, checkpoints and exports read these records; `models.families.rounded_cache` rounds as they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import record

CacheName = Literal["fp8", "q8_0"]
KV = "kv_"
"""Start of a cache's type in the name of an alternative."""
UNROUNDED = ("full", "bf16", "fp16", "tf32", "fp32", "fp64")
"""Words of a hardware's `kv_cache` for types that hold what engines compute."""


@record
class CacheType:
    """A type. `bytes`: of one number, scales included. `group`: numbers of a head that share a scale.

    `flags`: by runtime, the options that store all caches so; a runtime without an entry lacks the type.
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
            "q8_0",
            "llama.cpp's 8 bits",
            Fraction(34, 32),
            32,
            {"llama_cpp": "-ctk q8_0 -ctv q8_0 -fa on"},
        ),
    )
}
"""Types by the word of the language, in the order of documentation."""
SKIPPED = {"vllm": "--kv-cache-dtype-skip-layers"}
"""Runtime -> the option that names the layers whose caches stay as they are. Others have one type for all layers."""


@record
class ServedCaches:
    """KV caches of a child in a runtime: the type of those that are rounded, and the runtime's numbers of the other layers."""

    runtime: str
    cache: str | None = None
    kept: tuple[int, ...] = ()

    @property
    def flags(self) -> str:
        """The options with which the runtime stores keys and values so; empty if none are rounded."""
        if self.cache is None:
            return ""
        skipped = [SKIPPED[self.runtime], *map(str, self.kept)] if self.kept else []
        return " ".join([CACHES[self.cache].flags[self.runtime], *skipped])

    @property
    def request(self) -> dict[str, object]:
        """The part of a request to the runtime's engine (`export/engines/worker.py`) that says so."""
        return {} if self.cache is None else {"cache": self.cache, "kept": [*map(str, self.kept)]}
