"""Inputs and outputs of the sub-blocks of a layer in one run.

Shapes: B sequences, S tokens, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """Inputs and outputs of a layer's two sub-blocks, each [B, S, H]. A sub-block that is not there gives zeros.

    Inputs and outputs are those of the modules, so inputs are normed if there is a norm before. `…_added` are the outputs
    behind the norm there, if there is one: up to a factor of the whole model, they are added to the residual stream.
    """

    attention_input: Tensor
    attention_output: Tensor
    attention_added: Tensor
    between: Tensor  # the stream after attention
    ffn_input: Tensor
    ffn_output: Tensor
    ffn_added: Tensor
    output: Tensor
    attention_kwargs: dict[str, Any]  # the attention module's other arguments
    layer_kwargs: dict[str, Any]  # the layer's


TracedBatch = tuple[Tensor, LayerTrace]
"""Hidden states [B, S, H] that enter a layer, and the trace of the parent's layer on them."""
