"""Runtimes and their model architectures, as data, each with the version and the file that it was read from.

Every answer was tried in `tests/export`: an architecture gives the reference's logits for what is native or rewritten
here. llama.cpp's other architectures (`llama`, `qwen3`, `qwen3moe`, `gemma3`, `gpt-oss`, …) read the arrays of head counts
and widths, but use the first layer's for all layers.
"""

from collections.abc import Mapping
from typing import Any

from puzzledsl.alternatives.precision import CACHES, PRECISIONS, SKIPPED
from puzzledsl.alternatives.support import NATIVE, Absent, Architecture, Lowered, Support
from puzzledsl.base.frozen import Frozen
from puzzledsl.families.registry import FAMILIES


class Runtime(Frozen):
    """A runtime. Of its architectures, the first that can run a child runs it."""

    name: str
    title: str
    version: str
    architectures: tuple[Architecture, ...]

    @property
    def one_cache(self) -> bool:
        """True if all layers of a model have one type of KV caches."""
        return all(each.one_cache for each in self.architectures)


def _families(*names: str) -> dict[str, Support]:
    lack = Absent(reason="its layers have no state in attention's place")
    hybrids: dict[str, Support] = {name: lack for name, family in FAMILIES.items() if "mixer" in family.takes}
    return {**hybrids, **dict.fromkeys(names, NATIVE)}


_LLAMAS = _families("llama", "mistral", "qwen2")
_NO_QK_NORM = Absent(reason="it has no norm on queries and keys there")
_NO_BIAS = Absent(reason="its linear maps have no biases there")
_SILU = Absent(reason="its FFNs compute SiLU alone")
_NO_FIRST_TOKENS = Absent(reason="a window there has no first tokens beside it")
_ONE_WINDOW = Absent(reason="all its windows are of one size")
_ZERO_HEAD = Lowered(way="zero_attention", into="attention with one key/value head and an output of zeros")
_ONE_QUERY_HEAD = Lowered(way="zero_attention", into="attention with one head and an output of zeros")
_SAME_HEADS = Absent(reason="all its layers have the same number of query heads")
_ZERO_FFN = Lowered(way="zero_ffn", into="an FFN of 32 channels, all zero")
_BIASED_FFN = Lowered(way="biased_ffn", into="an FFN of the hidden size whose gate is 1 by its bias")
_NO_MATRIX = Absent(reason="without biases, no layer there computes a single matrix")


def _no_window(reason: str) -> dict[str, Any]:
    return dict.fromkeys(("window", "other_windows", "first_tokens"), Absent(reason=reason))


def _precisions(format: str, what: str) -> dict[str, Any]:
    """Return fields of an Architecture: the storage types of `format`, and the sentence that names them where one is lacking."""
    names = tuple(p.name for p in PRECISIONS.values() if p.format == format)
    return {"precisions": names, "no_precision": f"{what} has " + ", ".join(f"`{name}`" for name in names)}


def _caches(runtime: str, title: str) -> dict[str, Any]:
    """Return fields of an Architecture: a runtime's types of KV caches, the sentence for others, and if all layers share one."""
    names = tuple(cache.name for cache in CACHES.values() if runtime in cache.flags)
    said = f"{title} has " + ", ".join(f"`{name}`" for name in names)
    return {"caches": names, "no_cache": said, "one_cache": runtime not in SKIPPED}


_GGUF = _precisions("gguf", "a GGUF file") | _caches("llama_cpp", "llama.cpp")
_COMPRESSED: dict[str, Any] = {
    **_precisions("compressed", "it reads compressed-tensors, which"),
    "quantised_experts": Absent(
        reason="its experts are in one tensor, which compressed-tensors does not quantise"
    ),
}
_MIXTURES: dict[str, Any] = dict.fromkeys("experts other_top_k expert_width dense_in_mixture".split(), NATIVE)
DECILM = Architecture(
    name="DeciLM",
    source="the modeling file that puzzledsl writes into the directory",
    families=dict.fromkeys(FAMILIES, NATIVE),
    own_modules=True,
    caches=tuple(CACHES),
    **_COMPRESSED,
    **_MIXTURES,
)
TRANSFORMERS = Runtime(name="transformers", title="transformers", version="5.0", architectures=(DECILM,))
_NAS: dict[str, Any] = {
    "families": _LLAMAS | {"qwen3": _NO_QK_NORM},
    "ropes": ("default", "linear", "llama3"),
    "other_activation": _SILU,
    "linear_ffn": _BIASED_FFN,
    "drops_empty_layers": True,
    "needs_attention": True,
    "as_family": "llama",
}
"""Fields of architectures that were made for children of Puzzle."""
NEMOTRON_NAS = Architecture(
    name="nemotron_nas",
    source="vllm/model_executor/models/nemotron_nas.py",
    **_COMPRESSED,
    **_caches("vllm", "vLLM"),
    **_NAS,
    heads=_SAME_HEADS,
    **_no_window("it ignores `window_length` and attends to everything"),
    no_first_attention=_ZERO_HEAD,
    linear_attention=Lowered(
        way="extra_layer",
        into="a layer of its own whose FFN, of the hidden size, has a gate of 1 by its bias",
    ),
)
BACKEND = Architecture(
    name="transformers backend",
    source="vllm/model_executor/models/transformers/base.py",
    families=_families("qwen2", "qwen3", "qwen3_moe", "olmo2", "smollm3", "granite"),
    ropes=("default", "linear", "llama3", "yarn"),  # others follow the longest sequence of a batch
    other_activation=_SILU,  # its own experts do
    first_tokens=_NO_FIRST_TOKENS,
    other_windows=_ONE_WINDOW,
    **_MIXTURES,
    **_caches("vllm", "vLLM"),
    needs_attention=True,
    grouped=True,
)
BACKEND_AS_QWEN2 = BACKEND.model_copy(
    update={
        "name": "transformers backend, as Qwen2",  # whose class has windows; its biases are zeros
        "families": _families("llama", "mistral"),
        "attention_bias": Absent(reason="windows need Qwen2's layers, which have no bias behind attention"),
        "mlp_bias": Absent(reason="windows need Qwen2's layers, whose FFNs have no biases"),
        "as_family": "qwen2",
    }
)
VLLM = Runtime(
    name="vllm", title="vLLM 0.32", version="0.32.0", architectures=(NEMOTRON_NAS, BACKEND, BACKEND_AS_QWEN2)
)
DECI = Architecture(
    name="deci",
    source="src/models/deci.cpp",
    **_GGUF,
    **_NAS,
    **_no_window("its `deci` architecture has no sliding window"),
    no_first_attention=Lowered(way="zero_linear", into="a matrix of zeros"),
    no_ffn=_ZERO_FFN,
    zero_ffn_width=32,
)
_WITHOUT_BIASES: dict[str, Any] = {
    **dict.fromkeys(("attention_bias", "mlp_bias"), _NO_BIAS),
    **dict.fromkeys(("linear_attention", "linear_ffn"), _NO_MATRIX),
    **dict.fromkeys(("no_attention", "no_first_attention"), _ONE_QUERY_HEAD),
    "other_activation": _SILU,
    "zero_ffn_width": 32,
    "drops_empty_layers": True,
}
OPENELM = Architecture(
    name="openelm",
    source="src/models/openelm.cpp",
    **_GGUF,
    families=_families("qwen3"),  # norms on queries and keys, always
    ropes=("default", "linear"),
    **_WITHOUT_BIASES,
    untied=Absent(reason="its `openelm` architecture has no output matrix beside the embedding"),
    **_no_window("its `openelm` architecture has no sliding window"),
    no_ffn=_ZERO_FFN,
)
_PADDED_WIDTH = Lowered(way="pad_width", into="an FFN of the widest layer's channels, the others zero")
_PADDED_EXPERTS = Lowered(
    way="pad_experts",
    into="a mixture of the largest layer's sizes; its other experts are zero and never chosen",
)
STEP35 = Architecture(
    name="step35",
    source="src/models/step35.cpp",
    **_GGUF,
    families=_families("llama", "mistral", "qwen3", "qwen3_moe"),
    ropes=("default",),
    **_WITHOUT_BIASES,
    tied=Lowered(way="copy_embedding", into="an output matrix of its own, a copy of the embedding"),
    first_tokens=_NO_FIRST_TOKENS,
    other_windows=_ONE_WINDOW,
    width=_PADDED_WIDTH,
    no_ffn=Lowered(way="zero_ffn", into="an FFN of the widest layer's channels, all zero"),
    experts=_PADDED_EXPERTS,
    other_top_k=Absent(reason="each token has the same number of experts in all its layers"),
    expert_width=_PADDED_EXPERTS,
    fewer_of_all=Absent(reason="its router does not scale the weights of the chosen experts to a sum of 1"),
    dense_in_mixture=_PADDED_WIDTH,
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
            precisions=("q8_0", "q4_1", "q4_0", "int4"),
            no_precision="of these types it has `q8_0`, `q4_1`, `q4_0` and `int4`",
            no_cache="its quantised caches have grids of their own, which no score knows of",
            ropes=("default", "linear", "llama3"),
            other_activation=_SILU,
            heads=_SAME_HEADS,
            first_tokens=_NO_FIRST_TOKENS,
        ),
    ),
)
RUNTIMES: Mapping[str, Runtime] = {r.name: r for r in (TRANSFORMERS, VLLM, LLAMA_CPP, MLX)}
