"""Diagnostics of `data`."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class WrittenByAnother(Diagnostic, code="E0433"):
    """A text that another parent writes than the one whose child is made."""

    template = "{reader} makes children of parent `{parent}`, and `{data}` is written by parent `{writer}`"
    help_template = "write `sampled({parent}, …)`, or save the text of `{writer}` as files and read these"
