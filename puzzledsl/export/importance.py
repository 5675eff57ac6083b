"""Importance matrix for llama.cpp's recipes: the mean square of each input of a matrix on text (its tools/imatrix).

llama.cpp's quantisers weigh the error of each number of a row by it. The text is what healing fits to: nothing is judged on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from puzzledsl.alternatives.support import Architecture
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.load import load_checkpoint
from puzzledsl.export.verify_gguf import place_of

Importance = Mapping[str, NDArray[np.float32]]
"""Mean squares of the inputs of each matrix, by the name of its weight in the child."""


@torch.no_grad()
def importance_of(child_dir: Path, blocks_NS: Tensor) -> Importance:
    """Return the importance matrix of a child on blocks of tokens."""
    model = load_checkpoint(child_dir)
    sums: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def add(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            sums[name] = sums.get(name, torch.zeros(())) + args[0].double().flatten(0, -2).square().sum(0)

        return add

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(note(f"{name}.weight"))
    for block_S in blocks_NS:
        model(block_S[None], use_cache=False)
    if "lm_head.weight" in sums:  # which a tied embedding is
        sums["model.embed_tokens.weight"] = sums["lm_head.weight"]
    return {name: (total / blocks_NS.numel()).float().numpy() for name, total in sums.items()}


def in_file(
    importance: Importance, lowered: ChildFiles, engine: Architecture
) -> dict[str, NDArray[np.float32]]:
    """Return an importance matrix by the names of a GGUF file's tensors, for matrices that it has in the same size, or filled up.

    Channels that fill up a row count as much as the mean.
    """
    found = {}
    for name, values in importance.items():
        if name not in lowered.weights or ".experts." in name:
            continue
        missing = lowered.weights[name].shape[-1] - len(values)
        if missing >= 0:
            filled = np.concatenate([values, np.full(missing, values.mean(), dtype=np.float32)])
            found[place_of(name, lowered, engine).tensor] = filled
    return found
