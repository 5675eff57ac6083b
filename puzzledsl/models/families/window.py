"""A sliding window for one attention layer of a model whose other layers see everything, and the layer's KV cache.

A query sees itself, the tokens right before it, and the first `sinks` tokens of its sequence: `window` tokens at most, all told.
Heads put the attention that they have no use for on the first tokens, so a window without them costs far more
(StreamingLLM, arXiv 2309.17453).

Shapes: B sequences, K key/value heads, Q queries, C columns of the mask (one a token, padding included), N cached tokens,
D head_dim.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer


class WindowCache(DynamicLayer):  # type: ignore[no-untyped-call]
    """The cache of one layer with a window: the first `sinks` tokens and the last `window - sinks - 1`, [B, K, N, D].

    `start` is the column of each sequence's first token, [B]; None where no sequence is padded on its left. It has to be
    set before the first tokens come.
    """

    def __init__(self, window: int, sinks: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.window, self.sinks = window, sinks
        self.cumulative_length = 0
        self.start: Tensor | None = None

    @property
    def recent(self) -> int:
        """The number of last tokens that are kept."""
        return self.window - self.sinks - 1

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens, [B, K, Q, D]; returns keys and values of what was kept and of the new, [B, K, N + Q, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        before = self.places(key_states.shape[-2])
        keys, values = torch.cat((self.keys, key_states), -2), torch.cat((self.values, value_states), -2)
        self.cumulative_length += key_states.shape[-2]
        self.keys, self.values = (self._kept(states, before) for states in (keys, values))
        return keys, values

    def _kept(self, states: Tensor, places: Tensor) -> Tensor:
        if self.cumulative_length < self.window:
            return states
        if self.start is None:
            return torch.cat((states[:, :, : self.sinks], states[:, :, states.shape[-2] - self.recent :]), -2)
        kept = self.places()
        index = torch.searchsorted(places.expand(len(kept), -1).contiguous(), kept.contiguous())
        return states.gather(2, index[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[-1]))

    def places(self, new: int = 0) -> Tensor:
        """The columns of the tokens that are kept, and of `new` more after them, ascending: [1, N + Q], or [B, N + Q]."""
        length, device = self.cumulative_length, self.device
        if length < self.window:
            return torch.arange(length + new, device=device)[None]
        last = torch.arange(length - self.recent, length + new, device=device)[None]
        first = torch.arange(self.sinks, device=device)[None]
        if self.start is not None:  # a short sequence's first tokens may be among the last
            first = first + self.start.clamp(max=length - self.recent - self.sinks)[:, None]
        return torch.cat((first, last.expand(len(first), -1)), -1)

    def get_seq_length(self) -> int:
        """Tokens seen, kept or not."""
        return self.cumulative_length

    def reset(self) -> None:
        """Forget every token."""
        super().reset()
        self.start = None

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last tokens. Raises RuntimeError once tokens were let go, since those before are gone."""
        if tokens_to_remove and self.cumulative_length >= self.window:
            raise RuntimeError("a cache with a window cannot be cropped once tokens have left the window")
        super().crop(tokens_to_remove)
        self.cumulative_length = super().get_seq_length()

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Take the sequences `beam_idx`, [B], in that order."""
        super().reorder_cache(beam_idx)
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the sequences `indices` alone."""
        super().batch_select_indices(indices)
        self._select(indices)

    def _select(self, indices: Tensor) -> None:
        if self.start is not None:
            self.start = self.start[indices.to(self.start.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence."""
        super().batch_repeat_interleave(repeats)
        if self.start is not None:
            self.start = self.start.repeat_interleave(repeats)


class LimitWindow:
    """A forward pre-hook: each query sees `window` tokens at most, within the mask that it was given.

    It gives the layer a cache that lets go of what no query will see again, where the model's own cache would keep every
    token. Caches of another kind (a static one, the parent's own window) keep what they keep, and the mask hides it.
    """

    def __init__(self, window: int, sinks: int = 0) -> None:
        self.window, self.sinks = window, sinks

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Replace `attention_mask` (None, bool or additive, [B, 1, Q, C]) by its intersection with the window.

        Without a cache, distances are those of `position_ids`: in a row that branches, neighbours may be far apart.
        """
        hidden: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        mask: Tensor | None = kwargs.get("attention_mask")
        held: Any = module
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        layer = None if cache is None else _window_cache(cache, held.layer_idx, self)
        queries = hidden.shape[1]
        past: int | Tensor = 0
        start: Tensor | None = None
        if isinstance(layer, WindowCache):
            past = layer.cumulative_length
            if mask is not None and not past:
                first = _first_columns(mask)
                layer.start = first if bool(first.any()) else None
            if mask is None and (queries == 1 or past + queries <= self.window):
                return args, kwargs  # all that the cache has is seen
            layer.device = hidden.device
            key, start = layer.places(queries), layer.start
        else:
            keys, offset = queries, 0
            if cache is not None:
                past = cache.get_seq_length(held.layer_idx)
                keys, offset = cache.get_mask_sizes(queries, held.layer_idx)
            if isinstance(past, int) and past + queries <= self.window:
                return args, kwargs
            key = torch.arange(keys, device=hidden.device)[None] + offset
            if mask is not None and self.sinks:
                start = _first_columns(mask)
        query = torch.arange(queries, device=hidden.device)[None] + past
        columns = key
        if cache is None and (places := kwargs.get("position_ids")) is not None:
            query = key = places
            start = None if start is None else places.expand(len(start), -1).gather(1, start[:, None])[:, 0]
        seen = self._seen(query[:, :, None], key[:, None], start)[:, None]
        return args, kwargs | {"attention_mask": _both(mask, seen, columns)}

    def _seen(self, query: Tensor, key: Tensor, start: Tensor | None) -> Tensor:
        """True where a query, [B, Q, 1], sees a key, [B, 1, N], by place; `start`, [B]: of the first token. B may be 1."""
        near = key > query - (self.window - self.sinks)
        if self.sinks:
            near = near | (key < self.sinks + (0 if start is None else start[:, None, None]))
        return (key <= query) & near


def _window_cache(cache: Cache, index: int, limit: LimitWindow) -> Any:
    """The layer's part of the cache; an empty one of the plain kind gives way to a `WindowCache`. None: not yet made."""
    slots: Any = cache.layers
    if getattr(cache, "layer_class_to_replicate", None) is DynamicLayer:
        slots.extend(DynamicLayer() for _ in range(index + 1 - len(slots)))  # type: ignore[no-untyped-call]
    if index >= len(slots):
        return None
    if type(slots[index]) is DynamicLayer and not slots[index].is_initialized:
        slots[index] = WindowCache(limit.window, limit.sinks)
    return slots[index]


def _first_columns(mask: Tensor) -> Tensor:
    """The first column of each sequence that any query sees, [B]."""
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min
    return seen.any(-2).any(1).int().argmax(-1)


def _both(mask: Tensor | None, seen: Tensor, columns: Tensor) -> Tensor:
    """Intersect the given mask, [B, 1, Q, C], with the window, [1 or B, 1, Q, N]; `columns` [1 or B, N]."""
    if mask is None:
        return seen
    if columns.shape[-1] != mask.shape[-1]:  # the cache let some go
        mask = mask.gather(-1, columns[:, None, None].expand(len(mask), 1, mask.shape[-2], -1))
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, torch.finfo(mask.dtype).min)
