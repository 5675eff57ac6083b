"""Forward passes over rows of one sequence each, without transformers' search for sequences that are packed into a row.

The search looks at positions on the device, so each forward pass would begin by waiting for the one before it. A model that
has a cache is not asked to search.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from puzzledsl.models.families.access import shape_of


class NothingKept(Cache):
    """A KV cache that is always empty: attention sees the keys and values of its own forward pass alone."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values as they came."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of cached tokens."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the place of the first query."""
        return 0

    def get_mask_sizes(self, query_length: int | Tensor, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys and the place of the first. Before 5.3, transformers gave the queries' places."""
        return query_length if isinstance(query_length, int) else len(query_length), 0


def whole_rows(model: PreTrainedModel) -> dict[str, Any]:
    """Return arguments of the base model's `forward` with which every row is one sequence; none for mixers with a state."""
    if any(own.mixer not in ("attention", "none") for own in shape_of(model.config).each):
        return {}
    named = inspect.signature(model.base_model.forward).parameters
    return {"cache" if "cache" in named else "past_key_values": NothingKept()}
