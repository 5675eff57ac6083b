"""What keeps a child from being trained."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoUptrainData(Diagnostic):
    """Nothing says what to train on."""

    code = "E1701"
    template = "uptrain `{name}` does not say which data to train on"
    help_template = "add `data = NAME` to it, one of: {known}"


class LossDiverged(Diagnostic):
    """A loss that is not a number trains nothing."""

    code = "E1702"
    template = "the loss of uptrain `{name}` is {loss} at step {step}"
    help_template = "use a lower learning rate than {peak:g}, or a longer warm-up"


class NoLoss(Diagnostic):
    """Every weight of the loss is zero."""

    code = "E1703"
    template = "uptrain `{name}` has a loss of zero: there is nothing to learn"
    help_template = "write `loss = 1 * kld + 1 * cosine`"


class OtherVocabulary(Diagnostic):
    """KL divergence compares distributions over the same tokens."""

    code = "E1704"
    template = "the child of uptrain `{name}` has {child} tokens in its vocabulary, its parent {parent}"
    help_template = "make the child again, from this parent"
