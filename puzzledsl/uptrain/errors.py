"""Diagnostics of uptraining."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoUptrainData(Diagnostic):
    """The uptraining names no `data`, and the program has several or none.

    Uptraining needs text. Name the data, unless the program declares exactly one.

    Wrong:
        uptrain u of s { tokens = 1M }
    Right:
        uptrain u of s { tokens = 1M, data = mix }
    """

    code = "E1701"
    template = "uptrain `{name}` does not say which data to train on"
    help_template = "add `data = NAME` to it, one of: {known}"


class LossDiverged(Diagnostic):
    """The loss became infinite or NaN, so training stopped.

    The usual reason is a learning rate that is too high.

    Wrong:
        uptrain u of s { tokens = 1M, lr = cosine(1) }
    Right:
        uptrain u of s { tokens = 1M, lr = cosine(5e-5, warmup: 2%) }
    """

    code = "E1702"
    template = "the loss of uptrain `{name}` is {loss} at step {step}"
    help_template = "use a lower learning rate than {peak:g}, or a longer warm-up"


class NoLoss(Diagnostic):
    """All weights of the loss are zero.

    The loss is a weighted sum of `kld`, `cosine` and `lm`; at least one weight must be positive.

    Wrong:
        uptrain u of s { tokens = 1M, loss = 0 * kld }
    Right:
        uptrain u of s { tokens = 1M, loss = 1 * kld + 1 * cosine }
    """

    code = "E1703"
    template = "uptrain `{name}` has a loss of zero: there is nothing to learn"
    help_template = "write `loss = 1 * kld + 1 * cosine`"


class OtherVocabulary(Diagnostic):
    """Parent and child have different vocabularies, so their KL divergence is undefined.

    KL divergence compares probabilities of the same tokens.

    Wrong:
        $ edit wide.pzl               # another parent
        $ pzl uptrain wide.pzl
    Right:
        $ edit wide.pzl
        $ pzl run wide.pzl --until uptrain
    """

    code = "E1704"
    template = "the child of uptrain `{name}` has {child} tokens in its vocabulary, its parent {parent}"
    help_template = "make the child again, from this parent"
