"""Diagnostics of evaluation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoEvalData(Diagnostic):
    """The evaluation names no `data`, and the program has several or none.

    An `eval` compares models on text. Name the data, unless the program declares exactly one.

    Wrong:
        eval e of s = tasks("items.jsonl")
    Right:
        eval e of s = tasks("items.jsonl") { data = heldout }
    """

    code = "E1601"
    template = "eval `{name}` does not say on which data to compare the models"
    help_template = "add `data = NAME` to it, one of: {known}"


class SameTaskName(Diagnostic):
    """Two task files have the same name, so their results would collide.

    Results are named after their files, without the folder.

    Wrong:
        eval e of s = tasks("easy/items.jsonl", "hard/items.jsonl")
    Right:
        eval e of s = tasks("easy.jsonl", "hard.jsonl")
    """

    code = "E1602"
    template = "eval `{name}` has two task files called `{stem}`"
    help_template = "results are named after the files; rename one"


class ReservedTaskName(Diagnostic):
    """A task file has the name of a figure that every evaluation reports.

    Results are named after their files. These names are reserved: `pooled`, `params`, `checkpoint_bytes`, `kl`,
    `perplexity`.

    Wrong:
        eval e of s = tasks("pooled.jsonl")
    Right:
        eval e of s = tasks("items.jsonl")
    """

    code = "E1608"
    template = "eval `{name}` has a task file called `{stem}`, which is the name of another result"
    help_template = "rename the file"


class TooLargeToTime(Diagnostic):
    """A model that is to be timed does not fit in the device's memory.

    Times need the weights of at least two layers of each kind, which the other layers then use, too. Figures on text and tasks
    can be measured all the same: the weights are read layer by layer. A profile computes times for devices that this machine does
    not have.

    Wrong:
        hardware here = measured(device: cuda, dtype: bf16)     # of a parent of 70B
    Right:
        hardware here = measured(device: cpu, dtype: bf16)
    """

    code = "E1609"
    template = "model `{model}` cannot be timed on `{device}`: two of its layers take {needed}, of {room}"
    help_template = (
        "time it on a larger device, or use a profile such as `h100_sxm` in place of `measured(…)`"
    )


class TextsDisagree(Diagnostic):
    """A child is close to its parent on one text and far from it on another.

    The warning appears if the KL divergence on one text is more than 3 times that on another and more than 0.2 nats
    above it. A child learns from the text that its pieces are made, scored and trained on, and may lose abilities
    that this text lacks.

    Wrong:
        data prose = text("prose.txt")                    # of a child that is to write code
        bld pieces of w { tokens = 1M, data = prose }
    Right:
        data mixed = text("prose.txt", "code.txt")
        bld pieces of w { tokens = 1M, data = mixed }
    """

    code = "W1601"
    severity = "warning"
    template = "child `{model}` is made for `{text}`: its KL is {text_kl} there and {other_kl} on `{other}`"
    help_template = "make the pieces, the scores and the training read text like `{other}`, too"


class RepeatsItself(Diagnostic):
    """A child's answers to the prompts repeat themselves much more than its parent's.

    Repetition is the share of an answer's runs of 4 tokens that it has said before. The warning appears if the child's
    mean is more than 20 percentage points above its parent's. KL hardly shows it: the text that it is measured on is not
    the child's own. The report has the answers side by side.

    Wrong:
        search s of w { minimize kl, require chat.throughput >= 3x }
        eval e of s = tasks("items.jsonl")
    Right:
        search s of w { minimize kl, require chat.throughput >= 1.5x }
        uptrain u of s { tokens = 100M }
        eval e of u = tasks("items.jsonl")
    """

    code = "W1602"
    severity = "warning"
    template = "child `{model}` repeats itself: {child} of the runs of 4 tokens in its answers, {parent} in its parent's"
    help_template = "read its answers in the report; train it longer (`uptrain`), or ask for less speed"


class OtherModel(Diagnostic):
    """Parent and child have different vocabularies, so their KL divergence is undefined.

    KL divergence compares probabilities of the same tokens.

    Wrong:
        $ edit wide.pzl               # another parent
        $ pzl eval wide.pzl
    Right:
        $ edit wide.pzl
        $ pzl run wide.pzl --until eval
    """

    code = "E1603"
    template = "model `{model}` has {got} tokens in its vocabulary, the parent {expected}"
    help_template = "make `{model}` again, from this parent"


class ItemTooLong(Diagnostic):
    """A question is longer than the model's largest position.

    An item must fit the positions that the parent was trained for.

    Wrong:
        {"context": "… 9,000 words …", "choices": ["yes", "no"], "answer": 0}
    Right:
        {"context": "a short text", "choices": ["yes", "no"], "answer": 0}
    """

    code = "E1604"
    template = "an item of `{file}` has {got} tokens; the parent reads at most {limit}"
    help_template = "leave long items out of the file"


class NoHarness(Diagnostic):
    """Tasks of lm-eval are named, and the package `lm_eval` is not installed.

    Tasks listed in `lm_eval` are run by this package.

    Wrong:
        eval e of s { lm_eval = "arc_easy" }
    Right:
        $ pip install "puzzledsl[evaluation]"
    """

    code = "E1605"
    template = "`lm_eval` is not installed, so its tasks cannot run"
    help_template = 'run `pip install "puzzledsl[evaluation]"`'


class UnknownHarnessTask(Diagnostic):
    """The name of a task is unknown to lm-eval.

    `lm-eval ls tasks` lists the names. Task files of your own belong in the folder `lm_eval` beside the program.

    Wrong:
        eval e of s { lm_eval = "arc_eazy" }
    Right:
        eval e of s { lm_eval = "arc_easy" }
    """

    code = "E1606"
    template = "lm-eval has no task `{task}`"
    help_template = "{names}"


class HarnessFailed(Diagnostic):
    """lm-eval failed while it ran its tasks.

    Most tasks download a data set from the hub at their first use, which needs a network and disk space.

    Wrong:
        eval e of s { lm_eval = "arc_easy" }     # without a network
    Right:
        eval e of s = tasks("items.jsonl")       # questions in a file
    """

    code = "E1607"
    template = "lm-eval failed: {reason}"
    help_template = (
        "see what `lm-eval run --tasks NAME --limit 1` says of the same tasks, or give questions in a file"
    )
