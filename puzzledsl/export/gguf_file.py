"""Write a child as one GGUF file for llama.cpp, in an architecture whose layers may differ, one weight at a time.

Transformers rotates queries and keys in pairs (i, i + D/2). llama.cpp's `deci` has pairs (2i, 2i + 1), so the rows of both
projections are reordered. All mixtures of `step35` have the same sizes, so smaller ones get experts and channels of zeros. Such
an expert has another one's row of the router, which keeps the softmax in range, and a bias below every probability, so that no
token chooses it. The weights of the chosen ones are scaled to a sum of 1, which removes the others from the result; a parent
whose router does not scale them has mixtures of one size here. A shared expert, which `step35` always has, is zero.

Shapes: N heads of D = head_dim rows each, E experts, W channels of an expert, H hidden.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, PrecisionName
from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import replacing
from puzzledsl.base.frozen import Record
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.definition import MissingPackage, NotAGguf
from puzzledsl.export.gguf_tokenizer import add_tokenizer, packed
from puzzledsl.export.lowering import choose, lower, multiple_of, pad_widths, windows
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.engines import DECI, LLAMA_CPP, OPENELM, STEP35
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.gptq import nearest

SHARED = 32
"""Channels of the shared expert of zeros."""
NEVER = -1e30
"""Bias in the choice of experts that are not there."""


def mixture_tensors(child: ChildFiles) -> Iterator[tuple[str, LazyTensor]]:
    """Yield the tensors of all mixtures under llama.cpp's names."""
    sizes = _sizes(child)
    if not sizes:
        return
    experts, width = (max(size[i] for size in sizes.values()) for i in (0, 2))
    hidden, dtype = child.shape.hidden, child.dtype
    for layer, (count, _, _) in sizes.items():
        prefix, block = f"{FAMILIES[child.shape.family].layers}.{layer}.mlp.", f"blk.{layer}."
        yield f"{block}ffn_gate_inp.weight", _router(child.weights[f"{prefix}gate.weight"], experts)
        bias_E = torch.full((experts,), NEVER)
        bias_E[:count] = 0
        yield f"{block}exp_probs_b.bias", LazyTensor.of(bias_E)
        for kind, size in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
            parts = [child.weights[f"{prefix}experts.{e}.{kind}_proj.weight"] for e in range(count)]
            yield f"{block}ffn_{kind}_exps.weight", _stacked_experts(parts, (experts, *size))
            shared = (hidden, SHARED) if kind == "down" else (SHARED, hidden)
            yield f"{block}ffn_{kind}_shexp.weight", _zeros(shared, dtype)


def _sizes(child: ChildFiles) -> dict[int, tuple[int, int, int]]:
    """Return experts, those of a token, and channels of an expert, of each layer with a mixture."""
    ffns = enumerate(ffn for _, ffn in child.sub_blocks)
    return {layer: (*own.routing, own.expert_width) for layer, own in ffns if own.ffn == "moe"}


def _router(weight: LazyTensor, experts: int) -> LazyTensor:
    def read() -> Tensor:
        rows = weight.read()
        return torch.cat([rows, rows[:1].expand(experts - len(rows), -1)])

    return LazyTensor((experts, weight.shape[1]), weight.dtype, read)


def _stacked_experts(parts: list[LazyTensor], size: tuple[int, int, int]) -> LazyTensor:
    """Return experts in one tensor, filled up with zeros."""

    def read() -> Tensor:
        found = torch.zeros(size, dtype=parts[0].dtype)
        for expert, part in enumerate(parts):
            value = part.read()
            found[expert, : value.shape[0], : value.shape[1]] = value
        return found

    return LazyTensor(size, parts[0].dtype, read)


def _zeros(size: tuple[int, ...], dtype: torch.dtype) -> LazyTensor:
    return LazyTensor(size, dtype, lambda: torch.zeros(cast(Any, size), dtype=dtype))


FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
GgufDtype = Literal["f32", "f16", "bf16", "q8_0", "q4_1", "q4_0", "iq4_nl"]
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "iq4_nl": 25, "bf16": 32}  # llama_ftype
Encode = Callable[[LazyTensor, Any], "np.ndarray[Any, Any]"]
BLOCK = 32  # values of a q8_0 row that share a scale

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
INSIDE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "self_attn.linear": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class Place(Record):
    """The tensor that holds a weight, from row `first` or as matrix `expert`; `head_dim`: if rows are in rotary pairs, else 0."""

    tensor: str
    first: int | None = None
    expert: int | None = None
    head_dim: int = 0

    @property
    def whole(self) -> bool:
        """True if the weight is all of the tensor."""
        return self.first is None and self.expert is None

    def cut(self, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weight from the tensor's value."""
        if self.expert is not None:
            value = value[self.expert]
        if self.first is not None:
            value = value[self.first :]
        value = value[tuple(slice(size) for size in shape)]
        if self.head_dim:
            value = value.reshape(-1, self.head_dim // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)
        return value.contiguous()

    def weight(self, tensor: Any, shape: tuple[int, ...]) -> LazyTensor:
        """Return the weight in a tensor of a file, float32 when it is read."""
        import gguf

        whole = tuple(int(size) for size in reversed(tensor.shape))

        def read() -> Tensor:
            value = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            return self.cut(torch.from_numpy(value.copy()).reshape(whole), shape)

        return LazyTensor(shape, torch.float32, read)


def place_of(name: str, child: ChildFiles, engine: Architecture) -> Place:
    """Return the place of a weight of a lowered child in its file."""
    if name in OUTSIDE:
        return Place(OUTSIDE[name])
    index, _, own = name.removeprefix("model.layers.").partition(".")
    module, _, kind = own.rpartition(".")
    if module == "mlp.gate":
        return Place(f"blk.{index}.ffn_gate_inp.weight", first=0)
    if module.startswith("mlp.experts."):
        expert, _, projection = module.removeprefix("mlp.experts.").partition(".")
        return Place(f"blk.{index}.ffn_{projection.removesuffix('_proj')}_exps.weight", expert=int(expert))
    if engine is OPENELM and module in FUSED:
        before = FUSED[: FUSED.index(module)]
        first = sum(child.weights[f"model.layers.{index}.{m}.weight"].shape[0] for m in before)
        return Place(f"blk.{index}.attn_qkv.weight", first=first)
    paired = engine is DECI and module in FUSED[:2]
    return Place(f"blk.{index}.{INSIDE[module]}.{kind}", head_dim=child.shape.head_dim if paired else 0)


def write_gguf(
    child: ChildFiles,
    tokenizer_dir: Path | None,
    path: Path,
    dtype: GgufDtype = "f16",
    *,
    name: str,
    encode: Encode | None = None,
    whole_blocks: bool = False,
) -> None:
    """Write the child, lowered to llama.cpp's features, with its tokenizer, if any; norms and biases stay float32.

    Quantised sub-blocks have their own types, the rest has `dtype`. `encode` makes the bytes of each tensor, given its type;
    default: from its weights. `whole_blocks` fills FFN widths up to multiples of 32, as `q8_0` does.

    Raises DiagnosticError for what llama.cpp cannot represent, an unknown tokenizer, another file at `path`, or without `gguf`.
    """
    try:
        import gguf
    except ModuleNotFoundError:
        absent = MissingPackage(None, package="gguf", what="writing GGUF files", extra="runtimes")
        raise DiagnosticError(absent) from None
    refuse_to_overwrite(path)
    child, engine = as_llama_cpp(child, whole_blocks=whole_blocks or dtype in PRECISIONS)
    with replacing(path) as temporary:
        writer = gguf.GGUFWriter(temporary, engine.name)
        writer.add_name(name)
        _add_shape(writer, child, engine)
        if engine is STEP35:
            _add_step35(writer, child)
        else:
            writer.add_rope_dimension_count(child.shape.head_dim)
        factors = _add_rope(writer, child)
        writer.add_file_type(FILE_TYPES[dtype])
        writer.add_quantization_version(2)
        if tokenizer_dir is None:
            writer.add_tokenizer_model("no_vocab")
        else:
            add_tokenizer(writer, tokenizer_dir, child.shape.vocab)
        tensors = [
            (own, weight, storage, _kind(gguf, own, weight, storage or dtype))
            for own, weight, storage in _tensors(child, engine, factors)
        ]
        for own, weight, _, kind in tensors:
            block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            nbytes = math.prod(weight.shape) // block * block_bytes
            writer.add_tensor_info(own, weight.shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for _, weight, storage, kind in tensors:
            if encode is not None:
                data = encode(weight, kind)
            elif storage is None:
                data = _encoded(gguf, weight.read(), kind)
            else:
                data = packed(weight.read(), PRECISIONS[storage])
            writer.write_tensor_data(data)
        writer.close()


def as_llama_cpp(child: ChildFiles, *, whole_blocks: bool) -> tuple[ChildFiles, Architecture]:
    """Return llama.cpp's child and architecture; FFNs, all or quantised ones, have whole blocks of 32. Raises DiagnosticError."""
    engine = choose(child, LLAMA_CPP)
    padded = pad_widths(lower(child, engine), multiple_of(BLOCK), quantised_only=not whole_blocks)
    return padded, engine


def refuse_to_overwrite(path: Path) -> None:
    """Raise DiagnosticError for a path with something else than a GGUF file."""
    if not path.is_dir() and path.exists():
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return
    if path.exists():
        raise DiagnosticError(NotAGguf(None, path=path))


def _kind(gguf: Any, name: str, weight: LazyTensor, dtype: GgufDtype | PrecisionName) -> Any:
    """Return a tensor's type: float32 for vectors and routers, f16 if `dtype` has blocks and rows are not whole, else `dtype`."""
    kinds = gguf.GGMLQuantizationType
    if len(weight.shape) < 2 or name.endswith(".ffn_gate_inp.weight"):
        return kinds.F32
    if dtype in PRECISIONS and weight.shape[-1] % BLOCK:
        return kinds.F16
    return kinds[dtype.upper()]


def _encoded(gguf: Any, value: Tensor, kind: Any) -> np.ndarray[Any, Any]:
    """Encode rows for the file. A matrix of many rows is quantised in slices, which avoids a float copy of the whole."""
    if kind == gguf.GGMLQuantizationType.BF16:
        return value.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
    if kind == gguf.GGMLQuantizationType.F16:
        return value.to(torch.float16).numpy()
    if kind == gguf.GGMLQuantizationType.F32:
        return value.to(torch.float32).numpy()
    rows: Any = value.reshape(-1, value.shape[-1])  # experts share a tensor of three dimensions
    precision = PRECISIONS[kind.name.lower()]
    slices = [packed(nearest(some, precision), precision) for some in rows.split(4096)]
    return np.concatenate(slices).reshape(*value.shape[:-1], -1)


def _add_shape(writer: Any, child: ChildFiles, engine: Architecture) -> None:
    shape, config = child.shape, cast(Any, child.config)
    heads = [0 if own.mixer == "none" else own.heads for own, _ in child.sub_blocks]
    widths = [0 if own.ffn == "moe" else own.channels for _, own in child.sub_blocks]
    writer.add_block_count(shape.layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(widths if engine is not STEP35 else max(widths))
    writer.add_head_count(heads)
    writer.add_head_count_kv([own.cached_heads for own, _ in child.sub_blocks])
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(shape.vocab)


def _add_step35(writer: Any, child: ChildFiles) -> None:
    """Write step35's own settings: half of `rope.dimension_count` is rotated, and some layer needs a window, however long."""
    import gguf

    name, seen = STEP35.name, windows(child)
    longest, dim = cast(Any, child.config).max_position_embeddings, child.shape.head_dim
    writer.add_rope_dimension_count(2 * dim)
    writer.add_uint32(f"{name}.rope.dimension_count_swa", dim)
    theta = float(cast(Any, child.config).rope_parameters["rope_theta"])
    writer.add_float32(f"{name}.rope.freq_base_swa", theta)
    writer.add_sliding_window(next((size for size in seen if size is not None), longest))
    pattern = [size is not None for size in seen]
    pattern[0] |= not any(pattern)
    writer.add_array(f"{name}.attention.sliding_window_pattern", pattern)
    sizes = _sizes(child)  # all mixtures have the largest ones
    if sizes:
        writer.add_expert_count(max(experts for experts, _, _ in sizes.values()))
        writer.add_expert_used_count(next(iter(sizes.values()))[1])
    writer.add_expert_feed_forward_length(max((width for _, _, width in sizes.values()), default=0))
    if sizes:
        writer.add_expert_shared_feed_forward_length(SHARED)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
        writer.add_expert_weights_norm(bool(getattr(child.config, "norm_topk_prob", False)))
        writer.add_expert_weights_scale(1.0)


def _add_rope(writer: Any, child: ChildFiles) -> Tensor | None:
    """Write the rotary embedding's settings; return divisors of its frequencies [D / 2] for a tensor, None if it needs none."""
    import gguf

    rope: dict[str, Any] = dict(cast(Any, child.config).rope_parameters)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    match rope.get("rope_type", "default"):
        case "default":
            return None
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))
            return None
        case "llama3":
            head_dim = child.shape.head_dim
            turns = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
            wavelength = 2 * math.pi * float(rope["rope_theta"]) ** turns
            factor, context = float(rope["factor"]), float(rope["original_max_position_embeddings"])
            low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
            smooth = ((context / wavelength - low) / (high - low)).clamp(0, 1)
            return (1 / ((1 - smooth) / factor + smooth)).to(torch.float32)
        case other:
            raise AssertionError(f"`choose` lets no `{other}` through")


def _tensors(
    child: ChildFiles, engine: Architecture, factors: Tensor | None
) -> Iterator[tuple[str, LazyTensor, PrecisionName | None]]:
    """Yield the file's tensors under llama.cpp's names, with the storage types of quantised ones."""
    if factors is not None:
        yield "rope_freqs.weight", LazyTensor.of(factors), None
    types = child.storage_types()
    tensors: dict[str, list[str]] = {}
    for name in child.weights:
        if ".mlp.experts." not in name and ".mlp.gate." not in name:
            tensors.setdefault(place_of(name, child, engine).tensor, []).append(name)
    for tensor, names in tensors.items():
        parts, head_dim = [child.weights[name] for name in names], place_of(names[0], child, engine).head_dim
        weight = parts[0] if len(parts) == 1 else _stacked(parts)
        yield tensor, _paired(weight, head_dim) if head_dim else weight, types.get(names[0])
    for name, weight in mixture_tensors(child):
        ffn = child.layers[int(name.split(".")[1])][1]
        yield name, weight, ffn.dtype if name.endswith("_exps.weight") else None


def _stacked(parts: list[LazyTensor]) -> LazyTensor:
    """Return several matrices in one: queries, keys and values of a layer."""
    size = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return LazyTensor(size, parts[0].dtype, lambda: torch.cat([part.read() for part in parts]))


def _paired(weight: LazyTensor, head_dim: int) -> LazyTensor:
    """Return rows [N * D, …] with the two halves of each head's rows interleaved."""

    def read() -> Tensor:
        value = weight.read()
        heads = value.reshape(-1, 2, head_dim // 2, *value.shape[1:])
        return heads.transpose(1, 2).reshape(value.shape).contiguous()

    return LazyTensor(weight.shape, weight.dtype, read)
