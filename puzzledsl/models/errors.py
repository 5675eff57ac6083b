"""Diagnostics of stages that run models: of checkpoints, families and devices, pieces, scores and uptraining. Loads no torch."""

from puzzledsl.base.diagnostics import Mistake

BrokenModule = Mistake(
    "E0717",
    "the module of `{alternative}` cannot be used: {reason}",
    "upgrade the package that adds `{alternative}`, or leave it out of the space",
)
NoSuchLayer = Mistake(
    "E0713",
    "the definition of `{name}` has {got} layers, its parent has {expected}",
    "compile the program again, with this parent",
)
PieceDoesNotFit = Mistake(
    "E0714",
    "piece `{piece}` does not fit layer {layer}'s {sub_block} `{alternative}`: {reason}",
    "the block library is damaged or belongs to another parent; make the piece again",
)
UnfinishedWorkDamaged = Mistake(
    "E0716",
    "`{path}`, from which the interrupted run would resume, is damaged",
    "remove `{folder}` and run the same command again: what is finished is kept",
)
NotAChild = Mistake(
    "E0715",
    "`{path}` is not a child checkpoint: {reason}",
    "a child's config.json has `block_configs`, one entry a layer",
)
CannotInitialise = Mistake("E0721", "`{alternative}` cannot be initialised from this parent: {reason}")
NoCheckpoint = Mistake(
    "E0701",
    "no checkpoint at `{path}`: {reason}",
    "a parent is a directory with config.json, *.safetensors and a tokenizer, as `save_pretrained` writes it",
)
UnreadableCheckpoint = Mistake(
    "E0702",
    "the checkpoint at `{path}` cannot be loaded: {reason}",
    "copy it again from where it came from; only safetensors weights are read",
)
UnknownFamily = Mistake("E0703", "`{model_type}` models are not supported", "supported families: {supported}")
WeightsDontFit = Mistake(
    "E0704",
    "the weights at `{path}` do not fit its config.json: {reason}",
    "the checkpoint is incomplete or mixed up; copy it again",
)
DamagedWeights = Mistake(
    "E0705",
    "`{path}` cannot be trusted: {reason}",
    "nothing was read from it; copy the checkpoint again from where it came from",
)
WrongTokenizer = Mistake(
    "E0707",
    "the tokenizer in `{path}` is not this model's: {reason}",
    "copy tokenizer.json and tokenizer_config.json from where the weights came from",
)
TokenizerNeedsCode = Mistake(
    "E0708",
    "the tokenizer in `{path}` needs the code `{name}`, which is not run",
    "convert it to a tokenizer.json (`PreTrainedTokenizerFast`), and remove `auto_map` from tokenizer_config.json",
)
NoCalibration = Mistake(
    "E0722",
    "there are no calibration tokens",
    "initialisers read activations; give the data more text or a shorter context",
)
PieceMissing = Mistake(
    "E1301",
    "the block library `{root}` has no piece `{id}`",
    "run `pzl bld` again: it makes the missing pieces and keeps the others",
)
PieceDamaged = Mistake(
    "E1302",
    "the piece `{file}` is damaged: {reason}",
    "run `pzl bld` again: it makes the damaged pieces anew and keeps the others",
)
IndexDamaged = Mistake(
    "E1303",
    "line {line} of `{file}` is damaged: {reason}",
    "delete that line and run `pzl bld` again: it makes what is missing and keeps the others",
)
NoTrainingText = Mistake(
    "E1401",
    "bld `{name}` names no data to train on",
    'declare `data mix = text("corpus/*.txt")` and add `data = mix` to the bld',
)
NoScratchSpace = Mistake(
    "E1402",
    "bld `{name}` needs {needed} of disk for activations in `{work}`; {free} is free",
    "free some space, build elsewhere with `-o`, or lower `tokens`",
)
NoRoomForPiece = Mistake(
    "E1403",
    "bld `{name}` runs out of memory with a single piece of layer {layer}: {reason}",
    "lower `context`, leave the largest alternatives out of the space, or use a device with more memory",
)
LossNotFinite = Mistake(
    "E1411",
    "bld `{name}`: training {what} of layer {layer} ended in a loss of {loss}",
    "lower `lr`, which peaks at {peak:g}; finished pieces are kept",
)
ParentNotFinite = Mistake(
    "E1412",
    "the {sub_block} of the parent's layer {layer} returns NaN or infinite values",
    "its weights are damaged, or too large for {dtype}: copy the checkpoint again; finished pieces are kept",
)
NoScoringText = Mistake(
    "E1502",
    "score `{score}` names no data to score on",
    "add `data: NAME` to `replace_one(…)`, or `data = NAME` to the bld",
)
NoHealingText = Mistake(
    "E1505",
    "score `{score}` heals, and bld `{bld}` has no text for that",
    "add `data = NAME` (or `heal_data = NAME`) to the bld, a longer text where it has one; or leave `healed` out",
)
NoUptrainData = Mistake(
    "E1701",
    "uptrain `{name}` does not say which data to train on",
    "add `data = NAME` to it, one of: {known}",
)
LossDiverged = Mistake(
    "E1702",
    "the loss of uptrain `{name}` is {loss} at step {step}",
    "use a lower learning rate than {peak:g}, or a longer warm-up",
)
OtherVocabulary = Mistake(
    "E1704",
    "the child of uptrain `{name}` has {child} tokens in its vocabulary, its parent {parent}",
    "make the child again, from this parent",
)
NoRoomToUptrain = Mistake(
    "E1705",
    "uptrain `{name}` needs {needed} of {where} in each of {processes} processes, and there is {room}",
)
OutOfMemory = Mistake("E1707", "uptrain `{name}` ran out of memory in rank {rank}")
