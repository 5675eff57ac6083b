"""What cannot be evaluated."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoEvalData(Diagnostic):
    """Nothing says on what text models are compared."""

    code = "E1601"
    template = "eval `{name}` does not say on which data to compare the models"
    help_template = "add `data = NAME` to it, one of: {known}"


class SameTaskName(Diagnostic):
    """Results are named after files."""

    code = "E1602"
    template = "eval `{name}` has two task files called `{stem}`"
    help_template = "results are named after the files; rename one"


class OtherModel(Diagnostic):
    """KL divergence compares distributions over the same tokens."""

    code = "E1603"
    template = "model `{model}` has {got} tokens in its vocabulary, the parent {expected}"
    help_template = "make `{model}` again, from this parent"


class ItemTooLong(Diagnostic):
    """A question that does not fit the model's positions."""

    code = "E1604"
    template = "an item of `{file}` has {got} tokens; the parent reads at most {limit}"
    help_template = "leave long items out of the file"
