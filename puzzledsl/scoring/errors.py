"""Diagnostics of scoring (E1501 to E1505)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoPieceForAlternative(Diagnostic):
    """An alternative for which the score's BLD makes no piece.

    A score replaces parts of the parent by pieces, so the `bld` must make one for every alternative of the
    space.

    Wrong:
        bld pieces of w { train = ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    """

    code = "E1501"
    template = "score `{score}`: bld `{bld}` makes no piece for {what} in layer {layer}"
    help_template = "write `train = attention + ffn` (or `attention * ffn`) in `{bld}`, or leave the alternative out of the space"


class NoScoringText(Diagnostic):
    """A score without data.

    Scores are measured on text.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    Right:
        data mix = text("corpus/*.txt")
        bld pieces of w { train = attention + ffn, tokens = 0, data = mix }
        score other of pieces = replace_one(kl_divergence, samples: 512)
    """

    code = "E1502"
    template = "score `{score}` names no data to score on"
    help_template = "add `data: NAME` to `replace_one(…)`, or `data = NAME` to the bld"


class NoPairwiseTerms(Diagnostic):
    """Pairwise terms for a metric that has none, or around a child.

    Pairwise terms are covariances of the changes that two replacements make to the parent's logits. They complete a sum of
    KL divergences. Other metrics have no such terms, and scores around a child are right at that child without them.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(lm_loss, pairwise: true)
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, pairwise: true)
    """

    code = "E1503"
    template = "score `{score}` asks for pairwise terms, which {what} do not have"
    help_template = "pairwise terms go with `replace_one(kl_divergence, …)` in the parent; leave `pairwise: true` out here"


class NoFit(Diagnostic):
    """A fit to children for a metric that cannot be fitted, or around a child.

    `children: N` measures N whole children and fits the KLs of single replacements to them. Other metrics are not fitted, and
    scores around a child are right at that child without a fit.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(cosine, children: 24)
    Right:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, children: 24)
    """

    code = "E1504"
    template = "score `{score}` has `children`, but {what} cannot be fitted to children"
    help_template = "`children` goes with `replace_one(kl_divergence, …)` in the parent; leave it out here"


class NoHealingText(Diagnostic):
    """Scores after healing without text to heal on.

    `healed: N` heals on the text that the bld's children are healed on: the bld's own, or its `heal_data`. At least two
    sequences are needed, in addition to those that are scored.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 0 }
        score other of pieces = replace_one(kl_divergence, samples: 512, healed: 4Ki)
    Right:
        data mix = text("corpus/*.txt")
        bld pieces of w { train = attention + ffn, tokens = 0, data = mix }
        score other of pieces = replace_one(kl_divergence, samples: 512, healed: 4Ki)
    """

    code = "E1505"
    template = "score `{score}` heals, and bld `{bld}` has no text for that"
    help_template = "add `data = NAME` (or `heal_data = NAME`) to the bld, a longer text where it has one; or leave `healed` out"
