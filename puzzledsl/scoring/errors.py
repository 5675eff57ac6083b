"""Mistakes found when blocks are scored."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NothingTrainsIt(Diagnostic):
    """An alternative that the score's BLD makes no piece for."""

    code = "E1501"
    template = "score `{score}`: bld `{bld}` makes no piece for {what} in layer {layer}"
    help_template = "write `train = attention + ffn` (or `attention * ffn`) in `{bld}`, or leave the alternative out of the space"


class NoScoringText(Diagnostic):
    """A score without data."""

    code = "E1502"
    template = "score `{score}` names no data to score on"
    help_template = "add `data: NAME` to `replace_one(…)`, or `data = NAME` to the bld"


class NotScoredYet(Diagnostic):
    """A way of scoring this version does not know."""

    code = "E1503"
    template = "score `{score}` asks for `{feature}`, which this version cannot do"
    help_template = "leave it out: `replace_one(kl_divergence, samples: 4Ki)`"
