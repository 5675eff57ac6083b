"""Runtimes for children, as data, with the version and the source that their capabilities were verified on.

`Alternative.support` says for each alternative: native in the runtime, lowered (rewritten exactly by
`puzzledsl.export.lowering`), or absent, in which case the export is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.support import NATIVE, Absent, Lowered, Support
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.nodes import Shape


class Runtime(Frozen):
    """Capabilities of one runtime for children of the DeciLM / nemotron-nas layout.

    `families` lists the families whose layers it can run inside such a child; any other family is absent. A removed FFN
    that the runtime lacks becomes an FFN of `zero_ffn_width` channels, all zero.
    """

    name: str
    title: str
    version: str
    source: str
    families: Mapping[str, Support]
    zero_ffn_width: int = 0
    drops_empty_layers: bool = False  # a layer without sub-blocks is left out
    needs_attention: bool = False  # it runs no model without any KV cache
    as_llama: bool = False  # other families are rewritten as Llama, with zero biases where it wants one


_NO_QK_NORM = Absent(reason="it has no norm on queries and keys there")
_ALL = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), NATIVE)

TRANSFORMERS = Runtime(
    name="transformers",
    title="transformers",
    version="5.0",
    source="the modeling file that puzzledsl writes into the directory",
    families=_ALL,
)
VLLM = Runtime(
    name="vllm",
    title="vLLM 0.32",
    version="0.32.0",
    source="vllm/model_executor/models/nemotron_nas.py",
    families=_ALL | {"qwen3": _NO_QK_NORM},
    drops_empty_layers=True,
    needs_attention=True,
    as_llama=True,
)
LLAMA_CPP = Runtime(
    name="llama_cpp",
    title="llama.cpp",
    version="0ce8cd11416c (llama-cpp-py-sync 0.11739)",
    source="src/models/deci.cpp",
    families=_ALL | {"qwen3": _NO_QK_NORM},
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
    families=_ALL,
)
MEGATRON = Runtime(
    name="megatron",
    title="Megatron-LM",
    version="core 0.15",
    source="megatron/core/transformer/heterogeneous/heterogeneous_config.py",
    families=_ALL,
)
RUNTIMES: dict[str, Runtime] = {r.name: r for r in (TRANSFORMERS, VLLM, LLAMA_CPP, MLX, MEGATRON)}


def family_support(runtime: Runtime, family: str) -> Support:
    """Return the runtime's support for children of a family's parents."""
    return runtime.families.get(family, Absent(reason=f"it has no {family} layers there"))


def extra_params(runtime: Runtime, found: Lowered, shape: Shape) -> int:
    """Return the number of parameters that a lowered sub-block has in excess of the alternative it replaces."""
    hidden = shape.hidden
    match found.way:
        case "zero_ffn":
            return MlpFfn(width=runtime.zero_ffn_width).params(shape)
        case "zero_attention":
            return GqaAttention(kv_heads=1).params(shape)
        case "zero_linear":
            return hidden * hidden + hidden
        case "biased_ffn" | "extra_layer":
            return 2 * hidden * hidden + 3 * hidden
        case _:
            assert_never(found.way)
