# mypy: ignore-errors
"""Configuration of a child for vLLM's Transformers backend, which has one attention in each layer.

`block_configs` lists the child's layers. One without a KV cache belongs to the attention before it, or to the first
one, so `num_hidden_layers` counts attentions, and so do `layer_types` and `per_layer_config`.
"""

import copy

from .configuration_decilm import DeciLMConfig

# As in configuration_decilm.py.
CODE = ""


class ChildConfig(DeciLMConfig):
    model_type = "puzzle"
    base_model_tp_plan = DeciLMConfig.base_model_tp_plan | {
        name.replace("layers.*.", f"layers.*.{extra}.*."): style
        for name, style in DeciLMConfig.base_model_tp_plan.items()
        for extra in ("before", "after")
    }

    def __init__(self, block_configs=(), per_layer_config=None, query_heads=None, **kwargs):
        super().__init__(block_configs, **kwargs)
        self.query_heads = query_heads or self.num_attention_heads  # of the parent
        sizes = [self.sizes(block["attention"]) for block in block_configs if has_cache(block)]
        for name, value in (sizes or [{}])[0].items():
            setattr(self, name, value)
        if any(size != sizes[0] for size in sizes):
            self.per_layer_config = dict(enumerate(sizes))

    def sizes(self, attention):
        heads = attention.get("num_attention_heads") or self.query_heads
        return {"num_attention_heads": heads, "num_key_value_heads": heads // attention["n_heads_in_group"]}

    def of_blocks(self):
        """Return the configuration with one layer for each block."""
        own, kinds = copy.deepcopy(self), iter(self.layer_types or ())
        own.per_layer_config = None
        own.num_attention_heads = own.num_key_value_heads = self.query_heads
        own.layer_types = [
            next(kinds, "full_attention") if has_cache(b) else "full_attention" for b in self.block_configs
        ]
        own.num_hidden_layers = len(self.block_configs)
        return own


def has_cache(block):
    attention = block["attention"]
    return not (attention["no_op"] or attention["replace_with_linear"])
