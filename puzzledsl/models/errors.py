"""Diagnostics of stages that run models: of checkpoints, families and devices, pieces, scores and uptraining. Loads no torch."""

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


class NoCalibration(Diagnostic, code="E0722", template="there are no calibration tokens"):
    """The calibration data contains no tokens."""

    help_template = "initialisers read activations; give the data more text or a shorter context"


class PieceMissing(Diagnostic, code="E1301", template="the block library `{root}` has no piece `{id}`"):
    """A piece that the library does not contain."""

    help_template = "run `pzl bld` again: it makes the missing pieces and keeps the others"


class PieceDamaged(Diagnostic, code="E1302", template="the piece `{file}` is damaged: {reason}"):
    """A piece's file that does not match its index line."""

    help_template = "run `pzl bld` again: it makes the damaged pieces anew and keeps the others"


class IndexDamaged(Diagnostic, code="E1303", template="line {line} of `{file}` is damaged: {reason}"):
    """A line of the index, other than the last, that is not a valid piece."""

    help_template = "delete that line and run `pzl bld` again: it makes what is missing and keeps the others"


class NoTrainingText(Diagnostic, code="E1401", template="bld `{name}` names no data to train on"):
    """BLD without data."""

    help_template = 'declare `data mix = text("corpus/*.txt")` and add `data = mix` to the bld'


class NoScratchSpace(Diagnostic, code="E1402"):
    """Activations do not fit on the disk."""

    template = "bld `{name}` needs {needed} of disk for activations in `{work}`; {free} is free"
    help_template = "free some space, build elsewhere with `-o`, or lower `tokens`"


class NoRoomForPiece(Diagnostic, code="E1403"):
    """One piece, trained alone and one sequence at a time, exceeds the memory of the device."""

    template = "bld `{name}` runs out of memory with a single piece of layer {layer}: {reason}"
    help_template = (
        "lower `context`, leave the largest alternatives out of the space, or use a device with more memory"
    )


class LossNotFinite(Diagnostic, code="E1411"):
    """Training of a piece ended in a loss that is NaN or infinite."""

    template = "bld `{name}`: training {what} of layer {layer} ended in a loss of {loss}"
    help_template = "lower `lr`, which peaks at {peak:g}; finished pieces are kept"


class ParentNotFinite(Diagnostic, code="E1412"):
    """A layer of the parent outputs NaN or infinity."""

    template = "the {sub_block} of the parent's layer {layer} returns NaN or infinite values"
    help_template = "its weights are damaged, or too large for {dtype}: copy the checkpoint again; finished pieces are kept"


class NoScoringText(Diagnostic, code="E1502", template="score `{score}` names no data to score on"):
    """A score without data."""

    help_template = "add `data: NAME` to `replace_one(…)`, or `data = NAME` to the bld"


class NoHealingText(Diagnostic, code="E1505"):
    """Scores after healing without text to heal on."""

    template = "score `{score}` heals, and bld `{bld}` has no text for that"
    help_template = "add `data = NAME` (or `heal_data = NAME`) to the bld, a longer text where it has one; or leave `healed` out"


class NoUptrainData(Diagnostic, code="E1701"):
    """The uptraining names no `data`, and the program has several or none."""

    template = "uptrain `{name}` does not say which data to train on"
    help_template = "add `data = NAME` to it, one of: {known}"


class LossDiverged(Diagnostic, code="E1702"):
    """The loss became infinite or NaN, so training stopped."""

    template = "the loss of uptrain `{name}` is {loss} at step {step}"
    help_template = "use a lower learning rate than {peak:g}, or a longer warm-up"


class OtherVocabulary(Diagnostic, code="E1704"):
    """Parent and child have different vocabularies, so their KL divergence is undefined."""

    template = "the child of uptrain `{name}` has {child} tokens in its vocabulary, its parent {parent}"
    help_template = "make the child again, from this parent"


class NoRoomToUptrain(Diagnostic, code="E1705"):
    """An uptraining that needs more memory than there is, whatever is spent to save some."""

    template = (
        "uptrain `{name}` needs {needed} of {where} in each of {processes} processes, and there is {room}"
    )


class OutOfMemory(Diagnostic, code="E1707", template="uptrain `{name}` ran out of memory in rank {rank}"):
    """A training ran out of memory although it should have fitted."""
