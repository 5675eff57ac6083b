"""Errors of models: of checkpoints, tokenizers and families, and of devices.

Diagnostics of checkpoints that a program names.
"""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class BrokenModule(Diagnostic, code="E0717"):
    """An installed package whose module of an alternative does not load."""

    template = "the module of `{alternative}` does not load: {reason}"
    help_template = "upgrade the package that adds `{alternative}`, or leave it out of the space"


class NoSuchLayer(Diagnostic, code="E0713"):
    """A definition made for another parent."""

    template = "the definition of `{name}` has {got} layers, its parent has {expected}"
    help_template = "compile the program again, with this parent"


class PieceDoesNotFit(Diagnostic, code="E0714"):
    """A piece whose weights do not fit its alternative."""

    template = "piece `{piece}` does not fit layer {layer}'s {sub_block} `{alternative}`: {reason}"
    help_template = "the block library is damaged or belongs to another parent; make the piece again"


class UnfinishedWorkDamaged(Diagnostic, code="E0716"):
    """A damaged file, from which an interrupted run would resume."""

    template = "`{path}`, from which the interrupted run would resume, is damaged"
    help_template = "remove `{folder}` and run the same command again: what is finished is kept"


class NotAChild(Diagnostic, code="E0715", template="`{path}` is not a child checkpoint: {reason}"):
    """A directory that is not an exported child."""

    help_template = "a child's config.json has `block_configs`, one entry a layer"


class CannotInitialise(Diagnostic, code="E0721"):
    """An alternative that no initialiser can make from this parent."""

    template = "`{alternative}` cannot be initialised from this parent: {reason}"


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


class WrongTokenizer(Diagnostic, code="E0707"):
    """The tokenizer in the checkpoint's directory belongs to another model."""

    template = "the tokenizer in `{path}` is not this model's: {reason}"
    help_template = "copy tokenizer.json and tokenizer_config.json from where the weights came from"


class TokenizerNeedsCode(Diagnostic, code="E0708"):
    """The tokenizer in the checkpoint's directory is Python code."""

    template = "the tokenizer in `{path}` needs the code `{name}`, which is not run"
    help_template = "convert it to a tokenizer.json (`PreTrainedTokenizerFast`), and remove `auto_map` from tokenizer_config.json"
