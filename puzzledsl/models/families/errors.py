"""Diagnostics of checkpoints that a program names."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoCheckpoint(Diagnostic):
    """The directory does not exist or contains no config.json.

    A parent is a directory with config.json, safetensors files and a tokenizer, as `save_pretrained` writes it.

    Wrong:
        parent q = hf("downloads/model.safetensors")
    Right:
        parent q = hf("downloads")
    """

    code = "E0701"
    template = "no checkpoint at `{path}`: {reason}"
    help_template = "a parent is a directory with config.json, *.safetensors and a tokenizer, as `save_pretrained` writes it"


class UnreadableCheckpoint(Diagnostic):
    """The checkpoint contains files that cannot be read as weights.

    Only safetensors are read: pickled weights can run code.

    Wrong:
        $ ls parent
        config.json  pytorch_model.bin
    Right:
        $ ls parent
        config.json  model.safetensors  tokenizer.json
    """

    code = "E0702"
    template = "the checkpoint at `{path}` cannot be loaded: {reason}"
    help_template = "copy it again from where it came from; only safetensors weights are read"


class UnknownFamily(Diagnostic):
    """The checkpoint's model type is not supported.

    Each supported family has a file in `puzzledsl.families`.

    Wrong:
        # parent/config.json: {"model_type": "gpt2", …}
        parent q = hf("parent")
    Right:
        # parent/config.json: {"model_type": "llama", …}
        parent q = hf("parent")
    """

    code = "E0703"
    template = "`{model_type}` models are not supported"
    help_template = "supported families: {supported}"


class WeightsDontFit(Diagnostic):
    """The weights do not match config.json.

    A tensor is missing or unexpected, or its shape differs from the one that config.json implies.

    Wrong:
        $ ls parent
        config.json  model-00001-of-00002.safetensors
    Right:
        $ ls parent
        config.json  model-00001-of-00002.safetensors  model-00002-of-00002.safetensors
    """

    code = "E0704"
    template = "the weights at `{path}` do not fit its config.json: {reason}"
    help_template = "the checkpoint is incomplete or mixed up; copy it again"


class DamagedWeights(Diagnostic):
    """A weights file is truncated, corrupted or missing.

    Every weights file is checked against its header and the index before any of its content is used.

    Wrong:
        $ ls -s parent
        1024 model.safetensors          # the download was cut off
    Right:
        $ ls -s parent
        262784 model.safetensors
    """

    code = "E0705"
    template = "`{path}` cannot be trusted: {reason}"
    help_template = "nothing was read from it; copy the checkpoint again from where it came from"


class AbsurdConfig(Diagnostic):
    """A size in config.json is larger than that of any model.

    Sizes are checked before memory is allocated for them.

    Wrong:
        # parent/config.json: {"hidden_size": 40000000000, …}
        parent q = hf("parent")
    Right:
        # parent/config.json: {"hidden_size": 4096, …}
        parent q = hf("parent")
    """

    code = "E0706"
    template = "config.json of `{path}` says {name} = {value}, which no model has"
    help_template = "{name} is a whole number from {low:,} to {high:,}; nothing was allocated"


class WrongTokenizer(Diagnostic):
    """The tokenizer in the checkpoint's directory belongs to another model.

    A parent expects the token ids of its own tokenizer. Another tokenizer's ids select unrelated rows of the
    embedding, or rows that do not exist.

    Wrong:
        $ cp ../llama/tokenizer.json parent/      # and parent is a SmolLM2
    Right:
        $ ls parent
        config.json  model.safetensors  tokenizer.json  tokenizer_config.json
    """

    code = "E0707"
    template = "the tokenizer in `{path}` is not this model's: {reason}"
    help_template = "copy tokenizer.json and tokenizer_config.json from where the weights came from"


class TokenizerNeedsCode(Diagnostic):
    """The tokenizer in the checkpoint's directory is Python code.

    `auto_map` in tokenizer_config.json names a class that transformers does not have. A checkpoint's code is never run.

    Wrong:
        # parent/tokenizer_config.json: {"auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", null]}, …}
        parent q = hf("parent")
    Right:
        # parent/tokenizer_config.json: {"tokenizer_class": "PreTrainedTokenizerFast", …}, with tokenizer.json beside it
        parent q = hf("parent")
    """

    code = "E0708"
    template = "the tokenizer in `{path}` needs the code `{name}`, which is not run"
    help_template = "convert it to a tokenizer.json (`PreTrainedTokenizerFast`), and remove `auto_map` from tokenizer_config.json"
