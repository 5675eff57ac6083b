"""KV cache of timed decode steps on a GPU: written in place, as inference engines write theirs.

Transformers' cache appends a token by copying all tokens, which moves three times the bytes that attention itself reads. Here
each layer has room for one more token. Every step writes it to the same place, so all steps are at the same context, and a CUDA
graph of one can be replayed.

Shapes: B sequences, K key/value heads, N cached tokens, D head_dim.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


def write_in_place(cache: Cache) -> None:
    """Let the next tokens of a filled cache take the place after its last token, again and again. States stay as they are."""
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and layer.get_seq_length() and "update" not in layer.__dict__:
            held: Any = layer
            held.update = _InPlace(held)


def emptied(cache: Cache) -> Cache:
    """Return the cache without tokens. It keeps the constants that a new one would copy to the GPU, which no graph may do."""
    for layer in cache.layers:
        layer.__dict__.pop("update", None)
    untyped: Any = cache
    untyped.reset()
    return cache


class _InPlace:
    """`update` of one layer, which may have a window: its last tokens and the new one are what a query sees."""

    def __init__(self, layer: Any) -> None:
        self._keys, self._values = _with_room(layer.keys), _with_room(layer.values)
        layer.keys, layer.values = (
            self._keys[:, :, :-1],
            self._values[:, :, :-1],
        )  # lengths are read from them

    def __call__(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one token, [B, K, 1, D]; return keys and values of all, [B, K, N + 1, D]."""
        self._keys[:, :, -1:].copy_(key_states)
        self._values[:, :, -1:].copy_(value_states)
        return self._keys, self._values


def _with_room(states_BKND: Tensor) -> Tensor:
    batch, heads, tokens, dim = states_BKND.shape
    found = states_BKND.new_empty(batch, heads, tokens + 1, dim)
    found[:, :, :tokens].copy_(states_BKND)
    return found
