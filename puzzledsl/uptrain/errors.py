"""Diagnostics of uptraining."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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
