# mypy: ignore-errors
"""Configuration of a child whose layers differ: a Llama configuration and one `block_configs` entry a layer."""

from transformers.models.llama.configuration_llama import LlamaConfig

# Digest of modeling_decilm.py: transformers gives models whose configuration's code is alike one class in a process.
CODE = ""


class Block(dict):
    """A dictionary whose keys are also attributes, as runtimes read `block.attention.no_op`."""

    def __getattr__(self, name):
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(name) from None
        return Block(value) if isinstance(value, dict) else value


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=(), **kwargs):
        self.block_configs = [Block(block) for block in block_configs]
        super().__init__(**kwargs)
