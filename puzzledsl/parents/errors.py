"""What can be wrong with a checkpoint that a program names."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoCheckpoint(Diagnostic):
    """The directory does not exist, or holds no config.json."""

    code = "E0701"
    template = "no checkpoint at `{path}`: {reason}"
    help_template = "a parent is a directory with config.json, *.safetensors and a tokenizer, as `save_pretrained` writes it"


class UnreadableCheckpoint(Diagnostic):
    """The files are there but cannot be read."""

    code = "E0702"
    template = "the checkpoint at `{path}` cannot be loaded: {reason}"
    help_template = "copy it again from where it came from; only safetensors weights are read"


class UnknownFamily(Diagnostic):
    """A model type with no table in `parents.families`."""

    code = "E0703"
    template = "`{model_type}` models are not supported"
    help_template = "supported families: {supported}"


class WeightsDontFit(Diagnostic):
    """Weights and config.json disagree."""

    code = "E0704"
    template = "the weights at `{path}` do not fit its config.json: {reason}"
    help_template = "the checkpoint is incomplete or mixed up; copy it again"


class DamagedWeights(Diagnostic):
    """A weights file that is truncated, corrupted, or not where the index says."""

    code = "E0705"
    template = "`{path}` cannot be trusted: {reason}"
    help_template = "nothing was read from it; copy the checkpoint again from where it came from"


class AbsurdConfig(Diagnostic):
    """Sizes in config.json that no model has."""

    code = "E0706"
    template = "config.json of `{path}` says {name} = {value}, which no model has"
    help_template = "{name} is a whole number from {low:,} to {high:,}; nothing was allocated"
