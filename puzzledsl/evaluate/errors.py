"""Diagnostics of evaluation."""

from puzzledsl.base.diagnostics import Mistake

NoEvalData = Mistake(
    "E1601",
    "eval `{name}` does not say on which data to compare the models",
    "add `data = NAME` to it, one of: {known}",
)
SameTaskName = Mistake(
    "E1602",
    "eval `{name}` has two task files called `{stem}`",
    "results are named after the files; rename one",
)
ReservedTaskName = Mistake(
    "E1608",
    "eval `{name}` has a task file called `{stem}`, which is the name of another result",
    "rename the file",
)
ParentAtChance = Mistake(
    "E1611",
    "the parent is at chance on the questions of judge `{judge}`: {parent} of {items} right, {chance} by guessing",
    "judge on more questions or easier ones, or require `{judge}.kl <= 0.05` or `{judge}.agreement >= 90%`",
)
TooLargeToTime = Mistake(
    "E1609",
    "model `{model}` cannot be timed on `{device}`: its weights take {needed}, of {room}",
    "time it on a larger device, or use a profile such as `h100_sxm` in place of `measured(…)`",
)
TextsDisagree = Mistake(
    "W1601",
    "child `{model}` is made for `{text}`: its KL is {text_kl} there and {other_kl} on `{other}`",
    "make the pieces, the scores and the training read text like `{other}`, too",
)
RepeatsItself = Mistake(
    "W1602",
    "child `{model}` repeats itself: {child} of the runs of 4 tokens in its answers, {parent} in its parent's",
    "read its answers in the report; train it longer (`uptrain`), or ask for less speed",
)
OtherModel = Mistake(
    "E1603",
    "model `{model}` has {got} tokens in its vocabulary, the parent {expected}",
    "make `{model}` again, from this parent",
)
ItemTooLong = Mistake(
    "E1604",
    "an item of `{file}` has {got} tokens; the parent reads at most {limit}",
    "leave long items out of the file",
)
NoHarness = Mistake(
    "E1605",
    "`lm_eval` is not installed, so its tasks cannot run",
    'run `pip install "puzzledsl[evaluation]"`',
)
UnknownHarnessTask = Mistake("E1606", "lm-eval has no task `{task}`", "{names}")
HarnessFailed = Mistake(
    "E1607",
    "lm-eval failed: {reason}",
    "see what `lm-eval run --tasks NAME --limit 1` says of the same tasks, or give questions in a file",
)
