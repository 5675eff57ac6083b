"""What keeps a child from being trained."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoUptrainData(Diagnostic):
    """Nothing says what to train on.

    Uptraining needs text, and the program has several `data` or none.

    Wrong:
        uptrain u of s { tokens = 1M }
    Right:
        uptrain u of s { tokens = 1M, data = mix }
    """

    code = "E1701"
    template = "uptrain `{name}` does not say which data to train on"
    help_template = "add `data = NAME` to it, one of: {known}"


class LossDiverged(Diagnostic):
    """A loss that is not a number trains nothing.

    A loss that is infinite or not a number cannot be trained from; the learning rate is the usual reason.

    Wrong:
        uptrain u of s { tokens = 1M, lr = cosine(1) }
    Right:
        uptrain u of s { tokens = 1M, lr = cosine(5e-5, warmup: 2%) }
    """

    code = "E1702"
    template = "the loss of uptrain `{name}` is {loss} at step {step}"
    help_template = "use a lower learning rate than {peak:g}, or a longer warm-up"


class NoLoss(Diagnostic):
    """Every weight of the loss is zero.

    The loss is a weighted sum of `kld`, `cosine` and `lm`, and all weights are 0.

    Wrong:
        uptrain u of s { tokens = 1M, loss = 0 * kld }
    Right:
        uptrain u of s { tokens = 1M, loss = 1 * kld + 1 * cosine }
    """

    code = "E1703"
    template = "uptrain `{name}` has a loss of zero: there is nothing to learn"
    help_template = "write `loss = 1 * kld + 1 * cosine`"


class OtherVocabulary(Diagnostic):
    """KL divergence compares distributions over the same tokens.

    KL divergence compares probabilities of the same tokens, so parent and child need one vocabulary.

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
