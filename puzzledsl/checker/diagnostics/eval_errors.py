"""Diagnostics of `eval`: E043x."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NotInFull(Diagnostic, code="E0431"):
    """`full` of an `eval` that leaves out the child it evaluates."""

    template = "`full` leaves out `{child}`, the child that `{evaluation}` evaluates"
    help_template = "write `full = {written}`"


class PromptsNotAFile(Diagnostic, code="E0432"):
    """`prompts` with a string that names neither a `.jsonl` nor a `.txt` file."""

    template = "`prompts` names a file of prompts, and `{path}` is neither a `.jsonl` nor a `.txt` file"
    help_template = 'write `"prompts.txt"`, with blank lines between prompts, or `"prompts.jsonl"`'
