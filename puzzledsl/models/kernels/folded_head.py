"""Head of a frozen model: a slice of hidden states is multiplied as one matrix.

`x[:, -1:]` keeps the strides of `x`, so `torch.matmul` cannot view it as a matrix. With a frozen weight it expands and copies the
weight for a batched product (`should_fold` in ATen/native/LinearAlgebra.cpp); with `requires_grad` it copies the slice. On a CPU
in bfloat16, a copy of a head of 896 x 151,936 takes a second for each sequence of the batch, and the product 30 ms.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

_FOLDS = "folds_slices"
"""Attribute of a head that has the hook."""


def fold_head(model: PreTrainedModel) -> None:
    """Let the model's head copy an input that is a slice. Logits stay those of a model with gradients, bit for bit."""
    head = cast(nn.Module | None, model.get_output_embeddings())  # type: ignore[no-untyped-call]
    if head is not None and not head.__dict__.get(_FOLDS):
        head.register_forward_pre_hook(folded)
        head.__dict__[_FOLDS] = True


def folded(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Forward pre-hook: return the arguments with contiguous states [B, S, H]; None where they already fold."""
    states_BSH: Tensor = args[0]
    size, stride = states_BSH.shape, states_BSH.stride()
    if all(stride[i] == stride[i + 1] * size[i + 1] for i in range(len(size) - 2)):
        return None
    copied_BSH = states_BSH.new_empty(size)  # `contiguous()` returns a slice of one position as it is
    return (copied_BSH.copy_(states_BSH), *args[1:])
