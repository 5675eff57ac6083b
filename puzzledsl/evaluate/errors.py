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
