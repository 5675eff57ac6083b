"""Runtimes and their model architectures, as data, each with the version and the file that it was read from.

Every answer was tried in `tests/export`: an architecture gives the reference's logits for what is native or rewritten
here. llama.cpp's other architectures (`llama`, `qwen3`, `qwen3moe`, `gemma3`, `gpt-oss`, …) read the arrays of head counts
and widths, but use the first layer's for all layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.alternatives.support import NATIVE, Absent, Architecture, Lowered, Support
from puzzledsl.base.frozen import Frozen
from puzzledsl.families.registry import FAMILIES


class Runtime(Frozen):
    """A runtime. Of its architectures, the first that can run a child runs it."""

    name: str
    title: str
    version: str
    architectures: tuple[Architecture, ...]


def _families(*names: str) -> dict[str, Support]:
    return dict.fromkeys(names, NATIVE)


_LLAMAS = _families("llama", "mistral", "qwen2")
_NO_QK_NORM = Absent(reason="it has no norm on queries and keys there")
_NO_BIAS = Absent(reason="its linear maps have no biases there")
_SILU = Absent(reason="its FFNs compute SiLU alone")
_NO_FIRST_TOKENS = Absent(reason="a window there has no first tokens beside it")
_ONE_WINDOW = Absent(reason="all its windows are of one size")
_ZERO_ATTENTION = Lowered(
    way="zero_attention", into="attention with one key/value head and an output of zeros"
)
_ONE_QUERY_HEAD = Lowered(way="zero_attention", into="attention with one head and an output of zeros")
_SAME_HEADS = Absent(reason="all its layers have the same number of query heads")
_ZERO_FFN = Lowered(way="zero_ffn", into="an FFN of 32 channels, all zero")
_BIASED_FFN = Lowered(way="biased_ffn", into="an FFN of the hidden size whose gate is 1 by its bias")
_NO_MATRIX = Absent(reason="without biases, no layer there computes a single matrix")

_COMPRESSED = tuple(p.name for p in PRECISIONS.values() if p.format == "compressed")
_READS_COMPRESSED = "it reads compressed-tensors, which has " + ", ".join(f"`{name}`" for name in _COMPRESSED)
_FUSED_EXPERTS = Absent(reason="its experts are in one tensor, which compressed-tensors does not quantise")
_GGUF = tuple(p.name for p in PRECISIONS.values() if p.format == "gguf")
_READS_GGUF = "a GGUF file has " + ", ".join(f"`{name}`" for name in _GGUF)

DECILM = Architecture(
    name="DeciLM",
    source="the modeling file that puzzledsl writes into the directory",
    families=dict.fromkeys(FAMILIES, NATIVE),
    own_modules=True,
    precisions=_COMPRESSED,
    no_precision=_READS_COMPRESSED,
    quantised_experts=_FUSED_EXPERTS,
    experts=NATIVE,
    other_top_k=NATIVE,
    expert_width=NATIVE,
    dense_in_mixture=NATIVE,
)
TRANSFORMERS = Runtime(name="transformers", title="transformers", version="5.0", architectures=(DECILM,))

_NO_WINDOW = Absent(reason="it ignores `window_length` and attends to everything")
NEMOTRON_NAS = Architecture(
    name="nemotron_nas",
    source="vllm/model_executor/models/nemotron_nas.py",
    precisions=_COMPRESSED,
    no_precision=_READS_COMPRESSED,
    quantised_experts=_FUSED_EXPERTS,
    families=_LLAMAS | {"qwen3": _NO_QK_NORM},
    ropes=("default", "linear", "llama3"),
    other_activation=_SILU,
    heads=_SAME_HEADS,
    window=_NO_WINDOW,
    other_windows=_NO_WINDOW,
    first_tokens=_NO_WINDOW,
    no_first_attention=_ZERO_ATTENTION,
    linear_attention=Lowered(
        way="extra_layer",
        into="a layer of its own whose FFN, of the hidden size, has a gate of 1 by its bias",
    ),
    linear_ffn=_BIASED_FFN,
    drops_empty_layers=True,
    needs_attention=True,
    as_family="llama",
)
TRANSFORMERS_BACKEND = Architecture(
    name="transformers backend",
    source="vllm/model_executor/models/transformers/base.py",
    families=_families("qwen2", "qwen3", "qwen3_moe", "olmo2", "smollm3", "granite"),
    ropes=("default", "linear", "llama3", "yarn"),  # others follow the longest sequence of a batch
    other_activation=_SILU,  # its own experts do
    first_tokens=_NO_FIRST_TOKENS,
    other_windows=_ONE_WINDOW,
    experts=NATIVE,
    other_top_k=NATIVE,
    expert_width=NATIVE,
    dense_in_mixture=NATIVE,
    needs_attention=True,
    grouped=True,
)
BACKEND_AS_QWEN2 = TRANSFORMERS_BACKEND.model_copy(
    update={
        "name": "transformers backend, as Qwen2",  # whose class has windows; its biases are zeros
        "families": _families("llama", "mistral"),
        "attention_bias": Absent(reason="windows need Qwen2's layers, which have no bias behind attention"),
        "mlp_bias": Absent(reason="windows need Qwen2's layers, whose FFNs have no biases"),
        "as_family": "qwen2",
    }
)
VLLM = Runtime(
    name="vllm",
    title="vLLM 0.32",
    version="0.32.0",
    architectures=(NEMOTRON_NAS, TRANSFORMERS_BACKEND, BACKEND_AS_QWEN2),
)

_NO_DECI_WINDOW = Absent(reason="its `deci` architecture has no sliding window")
DECI = Architecture(
    name="deci",
    source="src/models/deci.cpp",
    precisions=_GGUF,
    no_precision=_READS_GGUF,
    families=_LLAMAS | {"qwen3": _NO_QK_NORM},
    ropes=("default", "linear", "llama3"),
    other_activation=_SILU,
    window=_NO_DECI_WINDOW,
    other_windows=_NO_DECI_WINDOW,
    first_tokens=_NO_DECI_WINDOW,
    no_first_attention=Lowered(way="zero_linear", into="a matrix of zeros"),
    no_ffn=_ZERO_FFN,
    linear_ffn=_BIASED_FFN,
    zero_ffn_width=32,
    drops_empty_layers=True,
    needs_attention=True,
    as_family="llama",
)
_NO_OPENELM_WINDOW = Absent(reason="its `openelm` architecture has no sliding window")
OPENELM = Architecture(
    name="openelm",
    source="src/models/openelm.cpp",
    precisions=_GGUF,
    no_precision=_READS_GGUF,
    families=_families("qwen3"),  # norms on queries and keys, always
    ropes=("default", "linear"),
    other_activation=_SILU,
    untied=Absent(reason="its `openelm` architecture has no output matrix beside the embedding"),
    attention_bias=_NO_BIAS,
    mlp_bias=_NO_BIAS,
    window=_NO_OPENELM_WINDOW,
    other_windows=_NO_OPENELM_WINDOW,
    first_tokens=_NO_OPENELM_WINDOW,
    no_attention=_ONE_QUERY_HEAD,
    no_first_attention=_ONE_QUERY_HEAD,
    linear_attention=_NO_MATRIX,
    no_ffn=_ZERO_FFN,
    linear_ffn=_NO_MATRIX,
    zero_ffn_width=32,
    drops_empty_layers=True,
)
_PADDED_WIDTH = Lowered(way="pad_width", into="an FFN of the widest layer's channels, the others zero")
_PADDED_EXPERTS = Lowered(
    way="pad_experts",
    into="a mixture of the largest layer's sizes; its other experts are zero and never chosen",
)
STEP35 = Architecture(
    name="step35",
    source="src/models/step35.cpp",
    precisions=_GGUF,
    no_precision=_READS_GGUF,
    families=_families("llama", "mistral", "qwen3", "qwen3_moe"),
    ropes=("default",),
    other_activation=_SILU,
    tied=Lowered(way="copy_embedding", into="an output matrix of its own, a copy of the embedding"),
    attention_bias=_NO_BIAS,
    mlp_bias=_NO_BIAS,
    first_tokens=_NO_FIRST_TOKENS,
    other_windows=_ONE_WINDOW,
    no_attention=_ONE_QUERY_HEAD,
    no_first_attention=_ONE_QUERY_HEAD,
    linear_attention=_NO_MATRIX,
    width=_PADDED_WIDTH,
    no_ffn=Lowered(way="zero_ffn", into="an FFN of the widest layer's channels, all zero"),
    linear_ffn=_NO_MATRIX,
    experts=_PADDED_EXPERTS,
    other_top_k=Absent(reason="each token has the same number of experts in all its layers"),
    expert_width=_PADDED_EXPERTS,
    fewer_of_all=Absent(reason="its router does not scale the weights of the chosen experts to a sum of 1"),
    dense_in_mixture=_PADDED_WIDTH,
    zero_ffn_width=32,
    drops_empty_layers=True,
)
LLAMA_CPP = Runtime(
    name="llama_cpp",
    title="llama.cpp",
    version="b11739, 0ce8cd11416c (llama-cpp-py-sync 0.11739)",
    architectures=(DECI, OPENELM, STEP35),
)

MLX = Runtime(
    name="mlx",
    title="MLX",
    version="mlx 0.32.4, mlx-lm 0.32.2",
    architectures=(
        Architecture(
            name="nemotron-nas",
            source="mlx_lm/models/nemotron-nas.py, or the model file that puzzledsl writes into the directory",
            families=_LLAMAS | _families("qwen3"),
            precisions=("q8_0", "q4_0", "int4"),
            no_precision="of these types it has `q8_0`, `q4_0` and `int4`",
            ropes=("default", "linear", "llama3"),
            other_activation=_SILU,
            heads=_SAME_HEADS,
            first_tokens=_NO_FIRST_TOKENS,
        ),
    ),
)
_NO_MEGATRON_WINDOW = Absent(reason="its heterogeneous layers have no sliding window")
MEGATRON = Runtime(
    name="megatron",
    title="Megatron-LM",
    version="core 0.15",
    architectures=(
        Architecture(
            name="heterogeneous layers",
            source="megatron/core/transformer/heterogeneous/heterogeneous_config.py",
            families=_LLAMAS | _families("qwen3"),
            no_precision="its layers have one type",
            ropes=("default", "linear", "llama3"),
            heads=_SAME_HEADS,
            window=_NO_MEGATRON_WINDOW,
            other_windows=_NO_MEGATRON_WINDOW,
            first_tokens=_NO_MEGATRON_WINDOW,
        ),
    ),
)
RUNTIMES: Mapping[str, Runtime] = {r.name: r for r in (TRANSFORMERS, VLLM, LLAMA_CPP, MLX, MEGATRON)}
