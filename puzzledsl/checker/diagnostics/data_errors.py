"""Diagnostics of `data`."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class WrittenByAnother(Diagnostic):
    """A text that another parent writes than the one whose child is made.

    `sampled` text consists of the tokens of the parent that writes it.

    Wrong:
        parent q = shape(family: llama, layers: 2, hidden: 64, heads: 4, head_dim: 16, intermediate: 96, vocab: 256)
        data d = sampled(q, tokens: 1M)
        bld b of w { tokens = 1M, data = d }
    Right:
        parent q = shape(family: llama, layers: 2, hidden: 64, heads: 4, head_dim: 16, intermediate: 96, vocab: 256)
        data d = text("written_by_q.txt")
        bld b of w { tokens = 1M, data = d }
    """

    code = "E0433"
    template = "{reader} makes children of parent `{parent}`, and `{data}` is written by parent `{writer}`"
    help_template = "write `sampled({parent}, …)`, or save the text of `{writer}` as files and read these"
