"""Convert a child's directory to the declared export: for transformers, vLLM or MLX, or a GGUF file.

mlx-lm's nemotron-nas model runs the child if it can represent it. Otherwise the directory includes a model file, which
`mlx_lm.load(directory, trust_remote_code=True)` runs. mlx-lm's model does not support heads that are not hidden / heads wide,
norms on queries and keys, windows (it ignores them), no attention, or a linear first one (it has the cache's position from it).
Quantised sub-blocks are w = scale * code + bias for groups of a row, codes not negative (`mlx.core.quantize`): those of q8_0,
q4_0 and int4 are shifted by half their range, which the bias takes back. The bias of q4_1 is its minimum.

Where vLLM's own DeciLM model cannot run the child, its Transformers backend runs the directory's code. It makes a KV cache for
each layer, so layers are grouped: a group has one attention, and the layers without a cache that follow it, or precede the first.
It makes mixtures of one size only, so experts of several sizes have another name, under which transformers' own code runs them.

Shapes: R rows of C numbers.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, assert_never, cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory
from puzzledsl.child.checkpoint.write import (
    MLX_MODEL_FILE,
    child_config_json,
    mlx_code,
    packed,
    write_checkpoint,
    write_directory,
)
from puzzledsl.export import lowering
from puzzledsl.export.gguf_file import GgufDtype, write_gguf
from puzzledsl.export.gguf_recipe import Importance, write_recipe
from puzzledsl.families.block_configs import FFN_MULTIPLE, MODEL_TYPE, ffn_mult, to_block_configs
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.engines import MLX, RUNTIMES, Runtime
from puzzledsl.ir.measured_engines import RECIPES
from puzzledsl.models.families.stored import as_parameters
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.gptq import Codes, stored_codes

WORD = 32
Types = Mapping[str, Precision]
"""Weight's name -> storage type, with a single size of groups: that of this weight's rows."""


def mlx_types(weights: Mapping[str, LazyTensor], types: Mapping[str, PrecisionName]) -> dict[str, Precision]:
    """Return the storage types of weights, with the size of groups that their rows have before zeros are appended to them."""
    found = {}
    for name, dtype in types.items():
        size = PRECISIONS[dtype].group(weights[name].shape[-1])
        assert size is not None
        found[name] = replace(PRECISIONS[dtype], groups=(size,))
    return found


def mlx_quantization(types: Types) -> dict[str, Any]:
    """Return `quantization` of config.json: bits and size of groups by module, and defaults that each module overrides."""
    modules = {
        name.removesuffix(".weight"): {"group_size": precision.groups[0], "bits": precision.bits}
        for name, precision in types.items()
    }
    return {"group_size": WORD, "bits": 8, "mode": "affine", **modules}


def _stored(name: str, weight: LazyTensor, precision: Precision, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """Return codes, scales (in the model's dtype if that is exact) and biases of a weight."""
    (rows, columns), size = weight.shape, precision.groups[0]
    assert columns % size == 0
    own = torch.float16 if precision.format == "gguf" else torch.bfloat16
    kind = dtype if dtype in (own, torch.float32) else torch.float32
    half = 1 << (precision.bits - 1)  # what `packed` adds to codes
    shift = 0 if precision.minimum else half

    def codes() -> Codes:
        return stored_codes(weight.read(), precision, f"`{name}`")

    def words() -> Tensor:
        return packed(codes().codes + shift - half, precision.bits).view(torch.uint32)

    def biases() -> Tensor:
        found = codes()
        return (found.minima - shift * found.scales).to(kind)

    module, sizes = name.removesuffix(".weight"), (rows, columns // size)
    return {
        name: LazyTensor((rows, columns * precision.bits // WORD), torch.uint32, words),
        f"{module}.scales": LazyTensor(sizes, kind, lambda: codes().scales.to(kind)),
        f"{module}.biases": LazyTensor(sizes, kind, biases),
    }


BLOCK = 32
"""Numbers of a row that share a scale, the fewest of the types that MLX has."""


def write_mlx(
    child: ChildFiles, base_dir: Path, out_dir: Path, card: str = "", *, dtype: torch.dtype | None = None
) -> None:
    """Write the child for MLX in `dtype` (default: the child's), with the tokenizer of `base_dir`. Raises DiagnosticError."""
    child = child if dtype is None else child.cast(dtype)
    child = lowering.lower(child, lowering.choose(child, MLX))
    native, types = is_native(child), mlx_types(child.weights, child.storage_types())
    if native:
        child = lowering.as_family(child, "llama") if child.shape.family != "llama" else child
        child = lowering.pad_widths(lowering.with_linear_biases(child), lowering.multiple_of(FFN_MULTIPLE))
    child = lowering.pad_widths(child, lowering.multiple_of(BLOCK), quantised_only=True)
    config = _native_config(child) if native else _own_config(child)
    if types:
        config["quantization"] = mlx_quantization(types)
    weights: dict[str, LazyTensor] = {}
    for name, weight in child.weights.items():
        weights |= _stored(name, weight, types[name], child.dtype) if name in types else {name: weight}
    code = {} if native else {MLX_MODEL_FILE: mlx_code()}
    write_directory(out_dir, base_dir, weights, config, code, card)


def is_native(child: ChildFiles) -> bool:
    """Return True if mlx-lm's nemotron-nas model computes exactly this child."""
    shape = child.shape
    attentions = [own for own, _ in child.sub_blocks if own.mixer != "none"]
    return (
        not shape.qk_norm
        and shape.head_dim * shape.heads == shape.hidden
        and not any(lowering.windows(child))
        and bool(attentions)
        and attentions[0].cached_heads > 0
    )


def _common(child: ChildFiles) -> dict[str, Any]:
    """Return the config.json fields common to both models."""
    shape, config = child.shape, cast(Any, child.config)
    rope = dict(config.rope_parameters)
    theta, kind = rope.pop("rope_theta"), rope.get("rope_type", "default")
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {
        **{key: child.content[key] for key in kept if key in child.content},
        "model_type": MODEL_TYPE,
        "base_model_type": shape.family,
        "architectures": ["DeciLMForCausalLM"],
        "dtype": str(child.dtype).removeprefix("torch."),
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": None if kind == "default" else rope,
        "rope_theta": float(theta),
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocab,
    }


def _native_config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json for mlx-lm's model, whose blocks accept only these keys and give a width as `ffn_mult`."""
    blocks = []
    for block in to_block_configs(child.layers, child.shape):
        attention, ffn = block["attention"], block["ffn"]
        width = ffn["intermediate_size"]
        mult = None if width is None else ffn_mult(width, child.shape.hidden)
        blocks.append(
            {
                "attention": {k: attention[k] for k in ("n_heads_in_group", "no_op", "replace_with_linear")},
                "ffn": {"ffn_mult": mult, **{k: ffn[k] for k in ("no_op", "replace_with_linear")}},
            }
        )
    shape = child.shape
    flags = {"attention_bias": shape.attention_bias, "mlp_bias": shape.mlp_bias}
    return _common(child) | flags | {"block_configs": blocks}


def _own_config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json for the included model file."""
    shape = child.shape
    return _common(child) | {
        "model_file": MLX_MODEL_FILE,
        "block_configs": to_block_configs(child.layers, shape),
        "head_dim": shape.head_dim,
        "qkv_bias": shape.attention_bias,
        "o_bias": shape.output_bias,
        "mlp_bias": shape.mlp_bias,
        "qk_norm": shape.qk_norm,
        "windows": lowering.windows(child),
    }


CODE = ("configuration_vllm.py", "modeling_vllm.py")


def write_for(engine: Architecture, child: ChildFiles, base_dir: Path, out_dir: Path, card: str = "") -> None:
    """Write a lowered child as the architecture loads it from a directory. Raises as `write_checkpoint` does.

    An engine with caches of its own is told their types as it starts (`lowering.served_caches`).
    """
    if not engine.own_modules:
        child = replace(child, layers=tuple((own.in_cache(None), ffn) for own, ffn in child.layers))
    if not engine.grouped:
        write_checkpoint(child, base_dir, out_dir, card, compress=True)
        return
    content = _config(child)
    config = copy.deepcopy(child.config)
    cast(Any, config).layer_types = [
        _kind(window) for window in lowering.windows(child)
    ]  # as the code makes them
    prefix = f"{FAMILIES[child.shape.family].layers}."
    places = group_names(_cached(child))
    weights, bank = {}, len(_mixtures(child)) > 1
    for own, weight in as_parameters(child.weights, FAMILIES[child.shape.family]).items():
        if own.startswith(prefix):
            index, _, rest = own.removeprefix(prefix).partition(".")
            rest = rest.replace("mlp.experts.", "mlp.bank.") if bank else rest
            own = f"{prefix}{places[int(index)]}.{rest}"
        weights[own] = weight
    grouped = replace(child, weights=weights, config=config)
    write_checkpoint(grouped, base_dir, out_dir, card, config=content, code=CODE)


def group_names(cached: Sequence[bool]) -> list[str]:
    """Return the place of each layer: `3` for one with a cache, `3.after.0` behind it, `0.before.0` before the first."""
    names: list[str] = []
    group, inside = -1, 0
    for has_cache in cached:
        if has_cache:
            group, inside = group + 1, 0
            names.append(f"{group}")
        else:
            names.append(f"{max(group, 0)}.{'after' if group >= 0 else 'before'}.{inside}")
            inside += 1
    return names


def _config(child: ChildFiles) -> dict[str, Any]:
    """Return config.json. The backend reads the windows of `layer_types` and `sliding_window`, one a group."""
    content = {k: v for k, v in child_config_json(child).items() if k not in lowering.WINDOW_KEYS}
    for block in content["block_configs"]:
        block["attention"]["window_length"] = None
    seen = [window for window, cached in zip(lowering.windows(child), _cached(child), strict=True) if cached]
    size = next((window for window in seen if window is not None), None)
    for experts, active, width in _mixtures(child):  # of one size: vLLM's own kernels run it
        names = FAMILIES[child.shape.family].mixture
        content |= {names.count: experts, "num_experts_per_tok": active, names.width: width}
    if divisor := FAMILIES[child.shape.family].logits_divisor:
        content["logit_scale"] = 1 / getattr(child.config, divisor)
    return content | {
        "model_type": "puzzle",
        "architectures": ["ChildForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_vllm.ChildConfig",
            "AutoModel": "modeling_vllm.ChildModel",
            "AutoModelForCausalLM": "modeling_vllm.ChildForCausalLM",
        },
        "num_hidden_layers": len(seen),
        "head_dim": child.shape.head_dim,
        "layer_types": [_kind(window) for window in seen],
        **({} if size is None else {"sliding_window": size, "use_sliding_window": True}),
    }


def _mixtures(child: ChildFiles) -> set[tuple[int, ...]]:
    """Return the sizes of the child's mixtures: experts, those of a token, and channels of an expert."""
    return {(*own.routing, own.expert_width) for _, own in child.sub_blocks if own.ffn == "moe"}


def _kind(window: int | None) -> str:
    return "full_attention" if window is None else "sliding_attention"


def _cached(child: ChildFiles) -> list[bool]:
    return [own.cached_heads > 0 for own, _ in child.sub_blocks]


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def write_export(
    child_dir: Path,
    target: Path,
    format: Literal["hf", "gguf", "mlx"],
    runtime: str,
    dtype: str | None = None,
    *,
    name: str | None = None,
    progress: Progress | None = None,
    importance: Importance | None = None,
    usual: str | None = None,
) -> None:
    """Write the child of `child_dir` to `target`, rewritten for a runtime that lacks some of its alternatives.

    `dtype`: default the child's; for GGUF `usual`, in which it was measured, or f16. `progress` hears of llama.cpp's recipes,
    which weigh errors by `importance`. Raises DiagnosticError.
    """
    child, found = from_directory(child_dir), RUNTIMES[runtime]
    title = name or target.stem
    match format:
        case "hf":
            child = child if dtype is None else child.cast(DTYPES[dtype])
            engine = lowering.choose(child, found)
            lowered = lowering.lower(child, engine)
            card = _card(child_dir, child, lowered, found, engine)
            write_for(engine, lowered, child_dir, target, card)
        case "gguf" if dtype is not None and dtype in RECIPES:
            recipe = RECIPES[dtype]
            given = (child, child_dir, target, recipe)
            done = write_recipe(*given, name=title, progress=progress, importance=importance)
            if progress is not None:
                progress.log(
                    "recipe",
                    text=f"{title}: {done.text}",
                    export=title,
                    types=done.types,
                    fallback=done.other,
                )
        case "gguf":
            write_gguf(child, child_dir, target, cast(GgufDtype, dtype or usual or "f16"), name=title)
        case "mlx":
            engine = lowering.choose(child, found)
            card = _card(child_dir, child, lowering.lower(child, engine), found, engine)
            wanted = None if dtype is None else DTYPES[dtype]
            write_mlx(child, child_dir, target, card, dtype=wanted)
        case _:
            assert_never(format)


def _card(
    child_dir: Path, child: ChildFiles, lowered: ChildFiles, runtime: Runtime, engine: Architecture
) -> str:
    """Return the child's own card and what is different in this copy; empty if the child has no card."""
    path = child_dir / "README.md"
    if not path.is_file():
        return ""
    card = path.read_text(encoding="utf-8").rstrip("\n")
    lines = [card, "", f"## For {runtime.title}", "", _how_to_load(runtime, engine, child), ""]
    if lowered.layers != child.layers:
        rows = [f"| {i} | {a.name} | {f.name} |" for i, (a, f) in enumerate(lowered.layers)]
        lines += [
            f"{runtime.title} (looked at: {runtime.version}, `{engine.source}`) lacks some of these sub-blocks. In this copy",
            "they are rewritten into others that compute the same; what it stores:",
            "",
            "| layer | attention | FFN |",
            "|---|---|---|",
            *rows,
            "",
        ]
    return "\n".join(lines)


def _how_to_load(runtime: Runtime, engine: Architecture, child: ChildFiles) -> str:
    options = "--trust-remote-code", lowering.served_caches(child, runtime).flags
    served = " ".join(filter(None, ("vllm serve DIRECTORY", *options)))
    match runtime.name:
        case "vllm" if engine.grouped:
            return f"`{served}` (its Transformers backend runs the model that is here)."
        case "vllm":
            return f"`{served}` (its own DeciLM model runs; the code here is the configuration's)."
        case "mlx" if is_native(child):
            return "`mlx_lm.load(DIRECTORY)`."
        case "mlx":
            return "`mlx_lm.load(DIRECTORY, trust_remote_code=True)`: `mlx_model.py` holds the model."
        case _:
            return "`AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)`."
