"""Diagnostics of scoring (E1502, E1505)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


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
