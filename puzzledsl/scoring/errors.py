"""Diagnostics of scoring (E1502, E1505)."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoScoringText(Diagnostic, code="E1502", template="score `{score}` names no data to score on"):
    """A score without data."""

    help_template = "add `data: NAME` to `replace_one(…)`, or `data = NAME` to the bld"


class NoHealingText(Diagnostic, code="E1505"):
    """Scores after healing without text to heal on."""

    template = "score `{score}` heals, and bld `{bld}` has no text for that"
    help_template = "add `data = NAME` (or `heal_data = NAME`) to the bld, a longer text where it has one; or leave `healed` out"
