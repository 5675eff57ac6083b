"""Configuration of a model as an attention with another number of query heads sees it."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class HeadsView:
    """A model's configuration with another `num_attention_heads`; all else, attention's implementation too, is the model's."""

    __slots__ = ("config", "num_attention_heads")

    def __init__(self, config: PreTrainedConfig, heads: int) -> None:
        self.config, self.num_attention_heads = config, heads

    def __getattr__(self, name: str) -> Any:
        if name in HeadsView.__slots__ or name.startswith("__"):  # a copy that has no attributes yet
            raise AttributeError(name)
        return getattr(self.config, name)
