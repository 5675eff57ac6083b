"""What can be wrong with a checkpoint that a program names."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoCheckpoint(Diagnostic):
    """The directory does not exist, or holds no config.json.

    A parent is a directory with config.json, safetensors files and a tokenizer, as `save_pretrained` writes
    it.

    Wrong:
        parent q = hf("downloads/model.safetensors")
    Right:
        parent q = hf("downloads")
    """

    code = "E0701"
    template = "no checkpoint at `{path}`: {reason}"
    help_template = "a parent is a directory with config.json, *.safetensors and a tokenizer, as `save_pretrained` writes it"


class UnreadableCheckpoint(Diagnostic):
    """The files are there but cannot be read.

    The directory holds files that cannot be read as weights. Only safetensors are read: pickled weights can
    run code.

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
    """A model type with no table in `parents.families`.

    pzl knows where a family keeps its weights. Llama, Mistral, Qwen2 and Qwen3 are known.

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
    """Weights and config.json disagree.

    A tensor is missing, or has another size than config.json says.

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
    """A weights file that is truncated, corrupted, or not where the index says.

    Every weights file is measured against its own header and the index before a byte of it is used.

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
    """Sizes in config.json that no model has.

    Sizes are checked before anything is allocated for them.

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
    """The tokenizer in the checkpoint's directory is another model's.

    A parent reads token ids of its own tokenizer; another's are rows of the embedding that mean something else, or none
    that exist.

    Wrong:
        $ cp ../llama/tokenizer.json parent/      # and parent is a SmolLM2
    Right:
        $ ls parent
        config.json  model.safetensors  tokenizer.json  tokenizer_config.json
    """

    code = "E0707"
    template = "the tokenizer in `{path}` is not this model's: {reason}"
    help_template = "copy tokenizer.json and tokenizer_config.json from where the weights came from"
