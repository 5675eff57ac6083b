"""Diagnostics of checkpoints that a program names."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoCheckpoint(Diagnostic, code="E0701", template="no checkpoint at `{path}`: {reason}"):
    """The directory does not exist or contains no config.json."""

    help_template = "a parent is a directory with config.json, *.safetensors and a tokenizer, as `save_pretrained` writes it"


class UnreadableCheckpoint(Diagnostic, code="E0702"):
    """The checkpoint contains files that cannot be read as weights."""

    template = "the checkpoint at `{path}` cannot be loaded: {reason}"
    help_template = "copy it again from where it came from; only safetensors weights are read"


class UnknownFamily(Diagnostic, code="E0703", template="`{model_type}` models are not supported"):
    """The checkpoint's model type is not supported."""

    help_template = "supported families: {supported}"


class WeightsDontFit(Diagnostic, code="E0704"):
    """The weights do not match config.json."""

    template = "the weights at `{path}` do not fit its config.json: {reason}"
    help_template = "the checkpoint is incomplete or mixed up; copy it again"


class DamagedWeights(Diagnostic, code="E0705", template="`{path}` cannot be trusted: {reason}"):
    """A weights file is truncated, corrupted or missing."""

    help_template = "nothing was read from it; copy the checkpoint again from where it came from"


class AbsurdConfig(Diagnostic, code="E0706"):
    """A size in config.json is larger than that of any model."""

    template = "config.json of `{path}` says {name} = {value}, which no model has"
    help_template = "{name} is a whole number from {low:,} to {high:,}; nothing was allocated"


class WrongTokenizer(Diagnostic, code="E0707"):
    """The tokenizer in the checkpoint's directory belongs to another model."""

    template = "the tokenizer in `{path}` is not this model's: {reason}"
    help_template = "copy tokenizer.json and tokenizer_config.json from where the weights came from"


class TokenizerNeedsCode(Diagnostic, code="E0708"):
    """The tokenizer in the checkpoint's directory is Python code."""

    template = "the tokenizer in `{path}` needs the code `{name}`, which is not run"
    help_template = "convert it to a tokenizer.json (`PreTrainedTokenizerFast`), and remove `auto_map` from tokenizer_config.json"
