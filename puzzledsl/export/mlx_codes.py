"""Quantised sub-blocks as MLX stores them: w = scale * code + bias for groups of a row, codes not negative (`mlx.core.quantize`).

The codes of q8_0, q4_0 and int4 are shifted by half their range, which the bias takes back. mlx-lm reads the type of each
module from config.json.

Shapes: R rows of C numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PRECISIONS, Precision, PrecisionName
from puzzledsl.child.checkpoint.compressed import packed
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.models.precision.grids import Codes, codes_of

WORD = 32
Types = Mapping[str, Precision]
"""Weight's name -> storage type, with the size of its groups alone."""


def mlx_types(weights: Mapping[str, LazyTensor], types: Mapping[str, PrecisionName]) -> dict[str, Precision]:
    """Return the storage types of weights before their rows are filled up with zeros, which would change their groups."""
    found = {}
    for name, dtype in types.items():
        size = PRECISIONS[dtype].group(weights[name].shape[-1])
        assert size is not None
        found[name] = replace(PRECISIONS[dtype], groups=(size,))
    return found


def mlx_weights(weights: Mapping[str, LazyTensor], types: Types, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """Return weights with codes, scales and biases in place of those with a type.

    Scales have the model's dtype if it holds them exactly, else float32.
    """
    found: dict[str, LazyTensor] = {}
    for name, weight in weights.items():
        found |= _stored(name, weight, types[name], dtype) if name in types else {name: weight}
    return found


def mlx_quantization(types: Types) -> dict[str, Any]:
    """Return the `quantization` of config.json: the sizes of each module, and some for a model that has no others."""
    modules = {
        name.removesuffix(".weight"): {"group_size": precision.groups[0], "bits": precision.bits}
        for name, precision in types.items()
    }
    return {"group_size": WORD, "bits": 8, "mode": "affine", **modules}


def _stored(name: str, weight: LazyTensor, precision: Precision, dtype: torch.dtype) -> dict[str, LazyTensor]:
    (rows, columns), size = weight.shape, precision.groups[0]
    assert columns % size == 0
    own = torch.float16 if precision.format == "gguf" else torch.bfloat16
    kind = dtype if dtype in (own, torch.float32) else torch.float32

    def codes() -> Codes:
        found = codes_of(weight.read(), precision)
        if found is None:
            raise ValueError(f"`{name}` is not on the grid of {precision.name}")
        return found

    def scales() -> Tensor:
        return codes().scales.to(kind)

    module, sizes = name.removesuffix(".weight"), (rows, columns // size)
    return {
        name: LazyTensor(
            (rows, columns * precision.bits // WORD), torch.uint32, lambda: _words(codes().codes, precision)
        ),
        f"{module}.scales": LazyTensor(sizes, kind, scales),
        f"{module}.biases": LazyTensor(sizes, kind, lambda: scales() * -float(1 << (precision.bits - 1))),
    }


def _words(codes_RC: Tensor, precision: Precision) -> Tensor:
    return packed(codes_RC, precision.bits).view(torch.uint32)
