"""What cannot be evaluated."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoEvalData(Diagnostic):
    """Nothing says on what text models are compared.

    An `eval` compares models on text, and the program has several `data` or none.

    Wrong:
        eval e of s = tasks("items.jsonl")
    Right:
        eval e of s = tasks("items.jsonl") { data = heldout }
    """

    code = "E1601"
    template = "eval `{name}` does not say on which data to compare the models"
    help_template = "add `data = NAME` to it, one of: {known}"


class SameTaskName(Diagnostic):
    """Results are named after files.

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
    """A task file is called like a result that is no task's.

    Results are named after their files, and some names are taken: `pooled`, `params`, `checkpoint_bytes`, `kl`, `perplexity`.

    Wrong:
        eval e of s = tasks("pooled.jsonl")
    Right:
        eval e of s = tasks("items.jsonl")
    """

    code = "E1608"
    template = "eval `{name}` has a task file called `{stem}`, which is the name of another result"
    help_template = "rename the file"


class TextsDisagree(Diagnostic):
    """A child is near its parent on one text and far from it on another.

    Warned of where the KL divergence on one text is more than 3 times that on another and more than 0.2 nats above it.
    A child learns from the text that its pieces are made, scored and trained on, and may lose what that text lacks.

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


class OtherModel(Diagnostic):
    """KL divergence compares distributions over the same tokens.

    KL divergence compares probabilities of the same tokens, so parent and child need one vocabulary.

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
    """A question that does not fit the model's positions.

    An item must fit the positions the parent was trained for.

    Wrong:
        {"context": "… 9,000 words …", "choices": ["yes", "no"], "answer": 0}
    Right:
        {"context": "a short text", "choices": ["yes", "no"], "answer": 0}
    """

    code = "E1604"
    template = "an item of `{file}` has {got} tokens; the parent reads at most {limit}"
    help_template = "leave long items out of the file"


class NoHarness(Diagnostic):
    """lm-eval tasks need lm-eval.

    Tasks named by `lm_eval` are asked by the package `lm_eval`, which is not installed.

    Wrong:
        eval e of s { lm_eval = "arc_easy" }
    Right:
        $ pip install "puzzledsl[evaluation]"
    """

    code = "E1605"
    template = "`lm_eval` is not installed, so its tasks cannot be asked"
    help_template = 'run `pip install "puzzledsl[evaluation]"`'


class UnknownHarnessTask(Diagnostic):
    """A task that lm-eval does not know.

    Tasks are named as `lm-eval ls tasks` lists them; files of your own lie in the folder `lm_eval` beside the program.

    Wrong:
        eval e of s { lm_eval = "arc_eazy" }
    Right:
        eval e of s { lm_eval = "arc_easy" }
    """

    code = "E1606"
    template = "lm-eval has no task `{task}`"
    help_template = "{names}"


class HarnessFailed(Diagnostic):
    """lm-eval could not ask its tasks.

    Most tasks read a data set from the hub the first time, which needs the network and the space for it.

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
