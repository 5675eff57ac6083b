"""Capabilities of each runtime for children, as data, with the version and the source they were verified on.

`support` classifies one alternative in one place: native in the runtime, lowered (rewritten exactly by
`puzzledsl.export.lowering`), or absent, in which case the export is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, assert_never

from pydantic import Field

from puzzledsl.ir.alternatives import (
    Alternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
)
from puzzledsl.ir.base import Frozen
from puzzledsl.ir.facts import attention_params, mlp_params
from puzzledsl.ir.nodes import Shape


class Native(Frozen):
    """The runtime has the alternative."""

    kind: Literal["native"] = "native"


class Lowered(Frozen):
    """The runtime lacks the alternative; `into` names the form that gives the same outputs and `way` the rewriting."""

    kind: Literal["lowered"] = "lowered"
    way: Literal["zero_ffn", "zero_attention", "zero_linear", "biased_ffn", "extra_layer"]
    into: str


class Absent(Frozen):
    """Nothing in the runtime gives the same outputs."""

    kind: Literal["absent"] = "absent"
    reason: str


Support = Annotated[Native | Lowered | Absent, Field(discriminator="kind")]


class Runtime(Frozen):
    """Capabilities of one runtime for children of the DeciLM / nemotron-nas layout.

    `families` lists the families whose layers it can run inside such a child; any other family is absent. `first`
    applies to the first layer that is not a no-op. A removed FFN that the runtime lacks becomes an FFN of
    `zero_ffn_width` channels, all zero.
    """

    name: str
    title: str
    version: str
    source: str
    families: Mapping[str, Support]
    window: Support
    sinks: Support
    linear_attention: Support
    noop_attention: Support
    noop_attention_first: Support
    linear_ffn: Support
    noop_ffn: Support
    zero_ffn_width: int = 0
    drops_empty_layers: bool = False  # a layer without sub-blocks is left out
    needs_attention: bool = False  # it runs no model without any KV cache
    as_llama: bool = False  # other families are rewritten as Llama, with zero biases where it wants one


_NATIVE = Native()
_NO_QK_NORM = Absent(reason="it has no norm on queries and keys there")
_BIASED = Lowered(way="biased_ffn", into="an FFN of the hidden size whose gate is 1 by its bias")

TRANSFORMERS = Runtime(
    name="transformers",
    title="transformers",
    version="5.0",
    source="the modeling file that puzzledsl writes into the directory",
    families=dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _NATIVE),
    window=_NATIVE,
    sinks=_NATIVE,
    linear_attention=_NATIVE,
    noop_attention=_NATIVE,
    noop_attention_first=_NATIVE,
    linear_ffn=_NATIVE,
    noop_ffn=_NATIVE,
)
VLLM = Runtime(
    name="vllm",
    title="vLLM 0.32",
    version="0.32.0",
    source="vllm/model_executor/models/nemotron_nas.py",
    families={"llama": _NATIVE, "mistral": _NATIVE, "qwen2": _NATIVE, "qwen3": _NO_QK_NORM},
    window=Absent(reason="it ignores `window_length` and attends to everything"),
    sinks=Absent(reason="it ignores `window_length` and attends to everything"),
    linear_attention=Lowered(
        way="extra_layer",
        into="a layer of its own whose FFN, of the hidden size, has a gate of 1 by its bias",
    ),
    noop_attention=_NATIVE,
    noop_attention_first=Lowered(
        way="zero_attention", into="attention with one key/value head and an output of zeros"
    ),
    linear_ffn=_BIASED,
    noop_ffn=_NATIVE,
    drops_empty_layers=True,
    needs_attention=True,
    as_llama=True,
)
LLAMA_CPP = Runtime(
    name="llama_cpp",
    title="llama.cpp",
    version="0ce8cd11416c (llama-cpp-py-sync 0.11739)",
    source="src/models/deci.cpp",
    families={"llama": _NATIVE, "mistral": _NATIVE, "qwen2": _NATIVE, "qwen3": _NO_QK_NORM},
    window=Absent(reason="its `deci` architecture has no sliding window"),
    sinks=Absent(reason="its `deci` architecture has no sliding window"),
    linear_attention=_NATIVE,
    noop_attention=_NATIVE,
    noop_attention_first=Lowered(way="zero_linear", into="a matrix of zeros"),
    linear_ffn=_BIASED,
    noop_ffn=Lowered(way="zero_ffn", into="an FFN of 32 channels, all zero"),
    zero_ffn_width=32,
    drops_empty_layers=True,
    needs_attention=True,
    as_llama=True,
)
MLX = Runtime(
    name="mlx",
    title="MLX",
    version="mlx 0.32.4, mlx-lm 0.32.2",
    source="mlx_lm/models/nemotron-nas.py, or the model file that puzzledsl writes into the directory",
    families=dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _NATIVE),
    window=_NATIVE,
    sinks=Absent(reason="a window there has no first tokens beside it"),
    linear_attention=_NATIVE,
    noop_attention=_NATIVE,
    noop_attention_first=_NATIVE,
    linear_ffn=_NATIVE,
    noop_ffn=_NATIVE,
)
MEGATRON = Runtime(
    name="megatron",
    title="Megatron-LM",
    version="core 0.15",
    source="megatron/core/transformer/heterogeneous/heterogeneous_config.py",
    families=dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _NATIVE),
    window=Absent(reason="its heterogeneous layers have no sliding window"),
    sinks=Absent(reason="its heterogeneous layers have no sliding window"),
    linear_attention=_NATIVE,
    noop_attention=_NATIVE,
    noop_attention_first=_NATIVE,
    linear_ffn=_NATIVE,
    noop_ffn=_NATIVE,
)
RUNTIMES: dict[str, Runtime] = {r.name: r for r in (TRANSFORMERS, VLLM, LLAMA_CPP, MLX, MEGATRON)}


def family_support(runtime: Runtime, family: str) -> Support:
    """Return the runtime's support for children of a family's parents."""
    return runtime.families.get(family, Absent(reason=f"it has no {family} layers there"))


def support(runtime: Runtime, alternative: Alternative, *, first: bool) -> Support:
    """Return the runtime's support for an alternative. `first`: all layers before this one are no-ops."""
    match alternative:
        case ParentAttention() | ParentFfn() | MlpFfn():
            return _NATIVE
        case GqaAttention(window=window, sinks=sinks):
            return _NATIVE if window is None else runtime.sinks if sinks else runtime.window
        case LinearAttention():
            return runtime.linear_attention
        case NoOpAttention():
            return runtime.noop_attention_first if first else runtime.noop_attention
        case LinearFfn():
            return runtime.linear_ffn
        case NoOpFfn():
            return runtime.noop_ffn
        case MoeFfn():
            return Absent(reason="no runtime's children have mixtures of experts")
        case _:
            assert_never(alternative)


def extra_params(runtime: Runtime, found: Lowered, shape: Shape) -> int:
    """Return the number of parameters that a lowered sub-block has in excess of the alternative it replaces."""
    hidden = shape.hidden
    match found.way:
        case "zero_ffn":
            return mlp_params(shape, runtime.zero_ffn_width) + hidden
        case "zero_attention":
            return attention_params(shape, 1)
        case "zero_linear":
            return hidden * hidden + hidden
        case "biased_ffn" | "extra_layer":
            return 2 * hidden * hidden + 3 * hidden
        case _:
            assert_never(found.way)
