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


class NoRoomToUptrain(Diagnostic):
    """An uptraining that needs more memory than there is, whatever is spent to save some.

    A weight in training takes 16 bytes: its float32 value, its gradient and two moments. The bytes are counted before anything is
    loaded. Several processes share them.

    Wrong:
        $ pzl uptrain wide.pzl            # 70B on one GPU, in a machine with little memory
    Right:
        $ torchrun --nproc-per-node 8 -m puzzledsl.cli.main uptrain wide.pzl
    """

    code = "E1705"
    template = (
        "uptrain `{name}` needs {needed} of {where} in each of {processes} processes, and there is {room}"
    )
    help_template = "{help}"


class NoEightBit(Diagnostic):
    """An uptraining that fits only with 8-bit moments, which need the package torchao.

    With it, a weight in training takes 10 bytes instead of 16.

    Wrong:
        $ pzl uptrain wide.pzl
    Right:
        $ pip install 'puzzledsl[eightbit]'
        $ pzl uptrain wide.pzl
    """

    code = "E1706"
    template = "uptrain `{name}` fits into memory only with 8-bit moments, and `torchao` is not installed"
    help_template = "pip install 'puzzledsl[eightbit]'"


class MemoryOfRank(Diagnostic):
    """One of several processes ran out of memory.

    The others wait for it, so all must be started again: they go on from the last checkpoint and take less at a time.
    `torchrun --max-restarts 3` starts them again by itself.

    Wrong:
        $ torchrun --nproc-per-node 8 -m puzzledsl.cli.main uptrain wide.pzl
    Right:
        $ torchrun --nproc-per-node 8 --max-restarts 3 -m puzzledsl.cli.main uptrain wide.pzl
    """

    code = "E1707"
    template = "uptrain `{name}` ran out of memory in rank {rank}"
    help_template = "start the same command again: it goes on {less}"
