"""Diagnostics of sampling text."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class TooLargeToSample(Diagnostic):
    """A parent that is to write text and does not fit in the device's memory.

    Its weights are read for every token, so they must be in memory. Stages that read text need less.

    Wrong:
        data d = sampled(p, tokens: 1M)              # p of 70B, on one GPU of 80 GB
    Right:
        data d = jsonl("written_elsewhere.jsonl")
    """

    code = "E1223"
    template = "parent `{parent}` cannot write text on `{device}`: its weights take {needed}, of {room}"
    help_template = "sample on a larger device, or read text that is there: `text(…)`, `jsonl(…)`"


class NothingToBeginWith(Diagnostic):
    """A parent whose tokenizer has no token that begins or ends a text, and no prompts.

    Without prompts a document begins with the tokenizer's first token, or with its end-of-text token.

    Wrong:
        data d = sampled(p, tokens: 1M)
    Right:
        data d = sampled(p, tokens: 1M, prompts: "p.txt")
    """

    code = "E1224"
    template = (
        "parent `{parent}` has nothing to begin a text with: its tokenizer has no first and no last token"
    )
    help_template = 'give it prompts: `prompts: "p.txt"`'
