"""Transformers' own model code in float64: where it asks for float32, it gets float64."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM


class Doubled(TorchFunctionMode):
    """Inside, `float()` is `double()`, and every float32 that is asked for by name is a float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function with float64 in place of float32."""
        if func is torch.Tensor.float:
            func = torch.Tensor.double

        def wider(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(wider, args), **{name: wider(value) for name, value in (kwargs or {}).items()})


def logits_in_float64(directory: Path, tokens: torch.Tensor) -> np.ndarray:
    """Logits (S, V) of one sequence, by the checkpoint's own code: transformers', or that which a child brings along."""
    with Doubled(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(
            directory, trust_remote_code=True, dtype=torch.float64, experts_implementation="eager"
        )  # grouped products of experts are of narrower numbers
        logits = model.eval()(tokens, use_cache=False).logits[0]
    assert logits.dtype == torch.float64
    return logits.numpy()
