"""Quantised sub-blocks as compressed-tensors stores them, the format that transformers and vLLM read.

`int8` and `int4` are `pack-quantized`: codes, made positive, fill words of 32 bits from the low end (`weight_packed`). `fp8` is
`float-quantized`: 8-bit floats under the weight's own name. Each has `weight_scale`. Activations are not quantised.

Shapes: R rows of C numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.gptq import Codes, stored_codes

WORD = 32
Types = Mapping[str, PrecisionName]
"""Weight's name -> storage type."""


def compressed(weights: Mapping[str, LazyTensor], types: Types, scales: torch.dtype) -> dict[str, LazyTensor]:
    """Return weights with codes and scales in place of those with a type.

    `scales`: the dtype that scales are stored in, bfloat16 or float32. Reading raises ValueError for a weight off its grid.
    """
    found: dict[str, LazyTensor] = {}
    for name, weight in weights.items():
        stored = name in types
        found |= _stored(name, weight, PRECISIONS[types[name]], scales) if stored else {name: weight}
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
    strategy: dict[str, Any] = {"strategy": "channel"}
    if group is not None:
        strategy = {"strategy": "group", "group_size": group}
    weights = {
        "num_bits": precision.bits,
        "type": "int" if precision.high else "float",
        "symmetric": True,
        "dynamic": False,
        **strategy,
    }
    targets = [f"re:{pattern}$" for pattern in _patterns(modules)]
    return {
        "format": _format(precision),
        "targets": targets,
        "weights": weights,
        "input_activations": None,
        "output_activations": None,
    }


def _patterns(modules: list[str]) -> list[str]:
    """Return regular expressions that match these modules alone: one for each name inside a layer."""
    layers: dict[tuple[str, str], list[str]] = {}
    for module in modules:
        start, index, inside = cast("re.Match[str]", re.fullmatch(r"(.*?)\.(\d+)\.(.*)", module)).groups()
        layers.setdefault((start, inside), []).append(index)
    return [
        rf"{re.escape(start)}\.({'|'.join(indices)})\.{re.escape(inside)}"
        for (start, inside), indices in layers.items()
    ]


def _stored(
    name: str, weight: LazyTensor, precision: Precision, scales: torch.dtype
) -> dict[str, LazyTensor]:
    rows, columns = weight.shape
    size = precision.group(columns)
    assert size is not None

    def codes() -> Codes:
        return stored_codes(weight.read(), precision, f"`{name}`")

    module = name.removesuffix(".weight")
    found = {
        f"{module}.weight_scale": LazyTensor(
            (rows, columns // size), scales, lambda: codes().scales.to(scales)
        )
    }
    if not precision.high:
        fp8 = torch.float8_e4m3fn
        return {name: LazyTensor(weight.shape, fp8, lambda: codes().codes.to(fp8)), **found}
    words = math.ceil(columns * precision.bits / WORD)
    return {
        f"{module}.weight_packed": LazyTensor(
            (rows, words), torch.int32, lambda: packed(codes().codes, precision.bits)
        ),
        **found,
        f"{module}.weight_shape": LazyTensor.of(torch.tensor([rows, columns])),
    }


def packed(codes_RC: Tensor, bits: int) -> Tensor:
    """Return codes of 4 or 8 bits, made positive, in words of 32 bits, int32; the first is in the lowest bits."""
    each = WORD // bits
    missing = -codes_RC.shape[1] % each
    positive = codes_RC.long() + (1 << (bits - 1))
    blocks = torch.nn.functional.pad(positive, (0, missing)).view(len(codes_RC), -1, each)
    words = (blocks << (torch.arange(each) * bits)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)
