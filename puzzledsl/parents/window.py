"""A sliding window for one attention layer of a model whose other layers see everything."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LimitWindow:
    """A forward pre-hook: each query sees itself and the `window - 1` tokens before it, within the mask it was given.

    Works on the mask only, so weights, names and the forward pass stay transformers' own. The KV cache of the layer
    still holds every token; a runtime that knows `window_length` frees what cannot be seen.
    """

    def __init__(self, window: int) -> None:
        self.window = window

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Replace `attention_mask` (None, bool or additive; (B, 1, query, key)) by its intersection with the window."""
        hidden: torch.Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        mask: torch.Tensor | None = kwargs.get("attention_mask")
        queries = keys = hidden.shape[1]
        past: int | torch.Tensor = 0  # a tensor in a static cache
        if cache is not None:
            index: Any = module.layer_idx
            past = cache.get_seq_length(index)
            keys, _ = cache.get_mask_sizes(queries, index)
        if isinstance(past, int) and past + queries <= self.window:
            return args, kwargs
        device = hidden.device
        query = torch.arange(queries, device=device)[:, None] + past
        key = torch.arange(keys, device=device)[None, :]
        seen = ((key <= query) & (key > query - self.window))[None, None]
        if mask is None:
            mask = seen
        elif mask.dtype == torch.bool:
            mask = mask & seen
        else:
            mask = mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
        return args, kwargs | {"attention_mask": mask}
