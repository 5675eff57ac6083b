"""Diagnostics of evaluation."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoEvalData(Diagnostic, code="E1601"):
    """The evaluation names no `data`, and the program has several or none."""

    template = "eval `{name}` does not say on which data to compare the models"
    help_template = "add `data = NAME` to it, one of: {known}"


class SameTaskName(Diagnostic, code="E1602", template="eval `{name}` has two task files called `{stem}`"):
    """Two task files have the same name, so their results would collide."""

    help_template = "results are named after the files; rename one"


class ReservedTaskName(Diagnostic, code="E1608"):
    """A task file has the name of a figure that every evaluation reports."""

    template = "eval `{name}` has a task file called `{stem}`, which is the name of another result"
    help_template = "rename the file"


class ParentAtChance(Diagnostic, code="E1611"):
    """The parent answers a judge's questions no better than by guessing, so no accuracy can be kept."""

    template = "the parent is at chance on the questions of judge `{judge}`: {parent} of {items} right, {chance} by guessing"
    help_template = "judge on more questions or easier ones, or require `{judge}.kl <= 0.05` or `{judge}.agreement >= 90%`"


class TooLargeToTime(Diagnostic, code="E1609"):
    """A model that is to be timed does not fit in the device's memory."""

    template = "model `{model}` cannot be timed on `{device}`: its weights take {needed}, of {room}"
    help_template = (
        "time it on a larger device, or use a profile such as `h100_sxm` in place of `measured(…)`"
    )


class TextsDisagree(Diagnostic, code="W1601"):
    """A child is close to its parent on one text and far from it on another."""

    template = "child `{model}` is made for `{text}`: its KL is {text_kl} there and {other_kl} on `{other}`"
    help_template = "make the pieces, the scores and the training read text like `{other}`, too"


class RepeatsItself(Diagnostic, code="W1602"):
    """A child's answers to the prompts repeat themselves much more than its parent's."""

    template = "child `{model}` repeats itself: {child} of the runs of 4 tokens in its answers, {parent} in its parent's"
    help_template = "read its answers in the report; train it longer (`uptrain`), or ask for less speed"


class OtherModel(Diagnostic, code="E1603"):
    """Parent and child have different vocabularies, so their KL divergence is undefined."""

    template = "model `{model}` has {got} tokens in its vocabulary, the parent {expected}"
    help_template = "make `{model}` again, from this parent"


class ItemTooLong(Diagnostic, code="E1604"):
    """A question is longer than the model's largest position."""

    template = "an item of `{file}` has {got} tokens; the parent reads at most {limit}"
    help_template = "leave long items out of the file"


class NoHarness(Diagnostic, code="E1605", template="`lm_eval` is not installed, so its tasks cannot run"):
    """Tasks of lm-eval are named, and the package `lm_eval` is not installed."""

    help_template = 'run `pip install "puzzledsl[evaluation]"`'


class UnknownHarnessTask(Diagnostic, code="E1606", template="lm-eval has no task `{task}`"):
    """The name of a task is unknown to lm-eval."""

    help_template = "{names}"


class HarnessFailed(Diagnostic, code="E1607", template="lm-eval failed: {reason}"):
    """lm-eval failed while it ran its tasks."""

    help_template = (
        "see what `lm-eval run --tasks NAME --limit 1` says of the same tasks, or give questions in a file"
    )
