"""Diagnostics of sampling text."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class TooLargeToSample(Diagnostic, code="E1223"):
    """A parent that is to write text and does not fit in the device's memory."""

    template = "parent `{parent}` cannot write text on `{device}`: its weights take {needed}, of {room}"
    help_template = "sample on a larger device, or read text that is there: `text(…)`, `jsonl(…)`"


class NothingToBeginWith(Diagnostic, code="E1224"):
    """A parent whose tokenizer has no token that begins or ends a text, and no prompts."""

    template = (
        "parent `{parent}` has nothing to begin a text with: its tokenizer has no first and no last token"
    )
    help_template = 'give it prompts: `prompts: "p.txt"`'
