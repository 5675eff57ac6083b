"""Write a child's directory in the DeciLM / nemotron-nas layout, with its card and model code that transformers loads.

The directory appears whole or not at all, and the same child gives the same bytes. The child itself is never in memory.

Quantised sub-blocks may be stored as compressed-tensors stores them, the format that transformers and vLLM read. `int8` and
`int4` are `pack-quantized`: codes, made positive, fill words of 32 bits from the low end (`weight_packed`). `fp8` is
`float-quantized`: 8-bit floats under the weight's own name. Each has `weight_scale`. Activations are not quantised.

Engines run the Python of a directory that `auto_map` and `model_file` name. So `foreign_code` compares every code file with the
model code that puzzledsl writes, byte by byte. Links to files are followed; links to folders are reported.

Shapes: R rows of C numbers.
"""

import hashlib
import inspect
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import appearing
from puzzledsl.child.checkpoint.contents import ChildFiles, Pieces, from_definition, write_shards
from puzzledsl.child.definition import UntrustedCode, WouldOverwrite
from puzzledsl.families.block_configs import MODEL_TYPE, to_block_configs
from puzzledsl.families.family import Names, Part
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.alternatives.realisation import module_class
from puzzledsl.models.families.build import arguments_of
from puzzledsl.models.families.load import read_config_json, tokenizer_settings
from puzzledsl.models.families.slots import DENSE, classes_of
from puzzledsl.models.families.stored import as_parameters, stored_name
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.gptq import Codes, stored_codes

CODE_SUFFIXES = (".py", ".pyc", ".pyo", ".pyw", ".pyd", ".so", ".pth")
CLASSES = ("configuration_decilm.DeciLMConfig", "modeling_decilm.DeciLMForCausalLM")
"""Every class that config.json of an exported child may name, as `module.class`."""


def foreign_code(directory: Path, child: ChildFiles) -> list[Diagnostic]:
    """Return diagnostics of code files, in any folder, that differ by a byte from puzzledsl's, and of foreign names of code."""
    shipped = {name: remote_code(name, child).encode() for name in remote_files(child.shape)}
    shipped[MLX_MODEL_FILE] = mlx_code().encode()
    found = [*_files(directory, shipped), *_names(directory)]
    return sorted(found, key=lambda own: own.message)


def code_for(engine: str, directory: Path) -> bool:
    """Return True if an engine, told to trust the directory, runs model code in it."""
    config = read_config_json(directory)
    if engine == "mlx":
        return "model_file" in config
    named = config.get("auto_map")
    return engine in ("transformers", "vllm") and isinstance(named, dict) and "AutoModelForCausalLM" in named


def _files(directory: Path, shipped: dict[str, bytes]) -> Iterator[Diagnostic]:
    for folder, folders, names in os.walk(directory):
        for name in folders:
            if (path := Path(folder, name)).is_symlink():
                reason = "it is a link to a folder, whose code is not compared"
                yield UntrustedCode(None, path=path, reason=reason)
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in CODE_SUFFIXES:
                expected = shipped.get(name) if path.parent == directory else None
                if (differs := _difference(path, expected)) is not None:
                    yield UntrustedCode(None, path=path, reason=differs)


def _difference(path: Path, expected: bytes | None) -> str | None:
    if expected is None:
        return "puzzledsl writes no such file"
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if content == expected:
        return None
    ours, theirs = expected.splitlines(keepends=True), content.splitlines(keepends=True)
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    return f"line {min(len(ours), len(theirs)) + 1 if same is None else same + 1} differs"


def _names(directory: Path) -> Iterator[Diagnostic]:
    for path in directory.glob("*config.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            yield UntrustedCode(None, path=path, reason=f"it cannot be read ({error})")
            continue
        if not isinstance(content, dict):
            continue
        own = CLASSES if path.name == "config.json" else ()
        for key in ("auto_map", "custom_pipelines"):
            for name in _strings(content.get(key)):
                if name not in own:
                    yield UntrustedCode(None, path=path, reason=f"its {key} names `{name}`")
        if "model_file" in content and (not own or content["model_file"] != MLX_MODEL_FILE):
            yield UntrustedCode(None, path=path, reason=f"its model_file names `{content['model_file']}`")


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


WORD = 32
Types = Mapping[str, PrecisionName]
"""Weight's name -> storage type."""


def compressed(weights: Mapping[str, LazyTensor], types: Types, scales: torch.dtype) -> dict[str, LazyTensor]:
    """Return weights with codes and scales in place of those with a type.

    `scales`: the dtype that scales are stored in, bfloat16 or float32. Reading raises ValueError for a weight off its grid.
    """
    found: dict[str, LazyTensor] = {}
    for name, weight in weights.items():
        of = types.get(name)
        found |= {name: weight} if of is None else _stored(name, weight, PRECISIONS[of], scales)
    return found


def quantization_config(weights: Mapping[str, LazyTensor], types: Types) -> dict[str, Any]:
    """Return the `quantization_config` of config.json; `types` has at least one weight."""
    groups: dict[tuple[Precision, int | None], list[str]] = {}
    for name, dtype in types.items():
        precision = PRECISIONS[dtype]
        group = precision.group(weights[name].shape[-1]) if precision.groups else None
        groups.setdefault((precision, group), []).append(name.removesuffix(".weight"))
    formats = {_format(precision) for precision, _ in groups}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "config_groups": {
            f"group_{index}": _group(precision, group, names)
            for index, ((precision, group), names) in enumerate(groups.items())
        },
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def _format(precision: Precision) -> str:
    return "pack-quantized" if precision.high else "float-quantized"


def _group(precision: Precision, group: int | None, modules: list[str]) -> dict[str, Any]:
    """Return settings of `modules`, with a pattern for each name in a layer. `group`: weights that share a scale; None: a row."""
    layers: dict[tuple[str, str], list[str]] = {}
    for module in modules:
        start, index, inside = cast("re.Match[str]", re.fullmatch(r"(.*?)\.(\d+)\.(.*)", module)).groups()
        layers.setdefault((start, inside), []).append(index)
    size: dict[str, int] = {} if group is None else {"group_size": group}
    return {
        "format": _format(precision),
        "targets": [
            rf"re:{re.escape(start)}\.({'|'.join(indices)})\.{re.escape(inside)}$"
            for (start, inside), indices in layers.items()
        ],
        "weights": {
            "num_bits": precision.bits,
            "type": "int" if precision.high else "float",
            "symmetric": True,
            "dynamic": False,
            "strategy": "channel" if group is None else "group",
            **size,
        },
        "input_activations": None,
        "output_activations": None,
    }


def _stored(
    name: str, weight: LazyTensor, precision: Precision, scales: torch.dtype
) -> dict[str, LazyTensor]:
    rows, columns = weight.shape
    size = precision.group(columns)
    assert size is not None

    def codes() -> Codes:
        return stored_codes(weight.read(), precision, f"`{name}`")

    scaled = LazyTensor((rows, columns // size), scales, lambda: codes().scales.to(scales))
    own = f"{name.removesuffix('.weight')}.weight"
    if not precision.high:
        fp8 = torch.float8_e4m3fn
        return {name: LazyTensor(weight.shape, fp8, lambda: codes().codes.to(fp8)), f"{own}_scale": scaled}
    words = rows, math.ceil(columns * precision.bits / WORD)
    return {
        f"{own}_packed": LazyTensor(words, torch.int32, lambda: packed(codes().codes, precision.bits)),
        f"{own}_scale": scaled,
        f"{own}_shape": LazyTensor.of(torch.tensor([rows, columns])),
    }


def packed(codes_RC: Tensor, bits: int) -> Tensor:
    """Return codes of 4 or 8 bits, made positive, in words of 32 bits, int32; the first is in the lowest bits."""
    each = WORD // bits
    missing = -codes_RC.shape[1] % each
    positive = codes_RC.long() + (1 << (bits - 1))
    blocks = torch.nn.functional.pad(positive, (0, missing)).view(len(codes_RC), -1, each)
    words = (blocks << (torch.arange(each) * bits)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


COPIED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
REMOTE_FILES = {
    "clamped.py": "models/families/clamped.py",
    "configuration_decilm.py": "child/checkpoint/remote/configuration_decilm.py",
    "configuration_vllm.py": "child/checkpoint/remote/configuration_vllm.py",
    "modeling_decilm.py": "child/checkpoint/remote/modeling_decilm.py",
    "modeling_vllm.py": "child/checkpoint/remote/modeling_vllm.py",
    "rounded_cache.py": "models/families/rounded_cache.py",
    "window.py": "models/families/window.py",
}
MLX_MODEL_FILE = "mlx_model.py"
DIGITS = 16
"""Hexadecimal digits of a digest of model code."""


def write_checkpoint(
    child: ChildFiles,
    base_dir: Path,
    out_dir: Path,
    card: str = "",
    *,
    config: Mapping[str, Any] | None = None,
    code: Sequence[str] = (),
    compress: bool = False,
) -> None:
    """Write a child, reading its weights one tensor at a time; the tokenizer is copied from `base_dir`.

    `config`, `code`: another config.json than that of the DeciLM layout, and files of model code beside its own.
    `compress`: store quantised sub-blocks as codes and scales; else as float32 on their grids.

    Raises DiagnosticError (WouldOverwrite, and whatever reading the weights raises).
    """
    family = FAMILIES[child.shape.family]
    weights = as_parameters(child.weights, family)
    content = child_config_json(child) if config is None else dict(config)
    own = {stored_name(name, family): dtype for name, dtype in child.storage_types().items()}
    # of layers alone; joined projections have the type of their parts
    types = {name: own[name] for name in weights if name in own and name.startswith(f"{family.layers}.")}
    if compress and types:
        content["quantization_config"] = quantization_config(weights, types)
        scales = torch.bfloat16 if child.dtype == torch.bfloat16 else torch.float32
        weights = compressed(weights, types, scales)
    texts = {name: remote_code(name, child) for name in [*remote_files(child.shape), *code]}
    write_directory(out_dir, base_dir, weights, content, texts, card)


def write_directory(
    out_dir: Path,
    base_dir: Path,
    weights: Mapping[str, LazyTensor],
    config: Mapping[str, Any],
    code: dict[str, str],
    card: str,
) -> None:
    """Write a model's directory, with files of `code` and the tokenizer of `base_dir`. Raises as `write_checkpoint`."""
    refuse_to_overwrite(out_dir)
    with appearing(out_dir) as directory:
        write_shards(weights, directory)
        write_json(directory / "config.json", config)
        for name, text in (code | {"README.md": card} if card else code).items():
            (directory / name).write_text(text, encoding="utf-8")
        copy_tokenizer(base_dir, directory)


def copy_tokenizer(base_dir: Path, directory: Path) -> None:
    """Copy the tokenizer's files and the generation settings unchanged, but for the names of code in `auto_map`.

    The code itself is never copied, and a name of the form `owner/repository--module.class` would have it downloaded.
    """
    for file_name in COPIED_FILES:
        if (base_dir / file_name).is_file():
            shutil.copyfile(base_dir / file_name, directory / file_name)
    settings = directory / "tokenizer_config.json"
    content = tokenizer_settings(directory)
    if content.pop("auto_map", None) is not None:
        write_json(settings, content)


def child_config_json(child: ChildFiles) -> dict[str, Any]:
    """The base family's config.json, made to describe the child. No path of this machine is kept."""
    return {
        **child.content,
        "model_type": MODEL_TYPE,
        "base_model_type": child.shape.family,
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
        "block_configs": to_block_configs(child.layers, child.shape),
        "dtype": str(child.dtype).removeprefix("torch."),
    }


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON with sorted keys."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def remote_files(shape: Shape) -> list[str]:
    """Return the names of the files of model code in every checkpoint of the shape's family."""
    names = ["configuration_decilm.py", "modeling_decilm.py", "rounded_cache.py", "window.py"]
    return ["clamped.py", *names] if shape.family in DENSE else names


def remote_code(file_name: str, child: ChildFiles) -> str:
    """Return the text of one file of model code. It is written for Llama; other families differ in their classes and names.

    The source of modules that installed packages define is put into it.
    """
    text = (resources.files("puzzledsl") / REMOTE_FILES[file_name]).read_text(encoding="utf-8")
    for old, new in _remote_names(child):
        text = text.replace(old, new)
    if 'CODE = ""' in text:
        code = hashlib.sha256(remote_code("modeling_decilm.py", child).encode()).hexdigest()
        text = text.replace('CODE = ""', f'CODE = "{code[:DIGITS]}"')
    modules = {a.kind: module for pair in child.layers for a in pair if (module := module_class(a))}
    if not modules:
        return text
    sources = [inspect.getsource(module) for module in dict.fromkeys(modules.values())]
    table = ", ".join(f'"{kind}": {module.__name__}' for kind, module in sorted(modules.items()))
    return text.replace("MODULES = {}", "\n\n".join([*sources, f"MODULES = {{{table}}}"]))


def mlx_code() -> str:
    """Return the model code of a directory for mlx-lm, the same for every child."""
    file = resources.files("puzzledsl.child.checkpoint") / "remote" / MLX_MODEL_FILE
    return file.read_text(encoding="utf-8")


def _remote_names(child: ChildFiles) -> Iterator[tuple[str, str]]:
    """Yield (text in Llama's model code, what the child's family has in its place), in the order of replacing."""
    family = FAMILIES[child.shape.family]
    mixture = family.mixture
    yield "PARTS = {}", f"PARTS = {_parts(child)}"
    if family.model_type in DENSE:
        yield "DENSE = LlamaMLP", f"from .clamped import {DENSE[family.model_type].__name__} as DENSE"
    elif "intermediate_size" in arguments_of(classes_of(family.model_type).ffn):
        yield "DENSE(own)", "DENSE(own, intermediate_size=own.intermediate_size)"
    if any(own.ffn == "moe" for own, _ in child.shape.kinds()):
        yield "MIXTURE = None", f"MIXTURE = modeling_llama.Llama{mixture.block}"
        yield "import nn\n", "import nn\nfrom transformers.models.llama import modeling_llama\n"
        yield "own.num_experts, own.moe_intermediate_size", f"own.{mixture.count}, own.{mixture.width}"
    yield "LlamaConfig", f"{family.config}Config"
    yield "LlamaModel", f"{family.config}Model"
    yield "Llama", family.prefix
    yield "models.llama", f"models.{family.module}"
    yield "_llama", f"_{family.module}"


def _parts(child: ChildFiles) -> str:
    """Return Python source of a dictionary: type of layer in config.json -> (module, norms, pair) of attention and of FFN."""
    names = FAMILIES[child.shape.family].names
    types = getattr(child.config, "layer_types", None) or ["full_attention"] * child.shape.layers
    found: dict[str, Names] = {}
    for kind, own in zip(types, child.shape.each, strict=True):
        found.setdefault(kind, names(own))

    def place(part: Part | None) -> tuple[str, tuple[str, ...], bool] | None:
        return None if part is None else (part.module, part.norms, part.pair)

    return repr({kind: (place(own.attention), place(own.ffn)) for kind, own in found.items()})


def refuse_to_overwrite(out_dir: Path) -> None:
    """Raise DiagnosticError (WouldOverwrite) unless `out_dir` is absent, empty, or an earlier child."""
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    if not (out_dir / "config.json").is_file() or "block_configs" not in read_config_json(out_dir):
        raise DiagnosticError(WouldOverwrite(None, path=out_dir))


def realise(
    definition: ModelDefinition,
    parent_dir: Path,
    pieces: Pieces,
    out_dir: Path,
    card: str = "",
    *,
    healed: Mapping[str, LazyTensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the child to `out_dir`, with one tensor or one piece in memory at a time.

    `dtype`: default the parent's stored dtype. `healed`: weights that take the place of the pieces' own.

    Raises DiagnosticError: those of `from_definition` and of reading a piece, and WouldOverwrite.
    """
    refuse_to_overwrite(out_dir)
    child = from_definition(definition, parent_dir, pieces, dtype)
    if healed:
        stored = replace(child, weights=dict(healed)).cast(child.dtype).weights
        child = replace(child, weights=child.weights | stored)
    write_checkpoint(child, parent_dir, out_dir, card)
