"""Diagnostics of `eval`: E043x."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NotInFull(Diagnostic):
    """`full` of an `eval` that leaves out the child it evaluates.

    `full` names the children that answer the tasks and are timed. The child after `of` is one of them.

    Wrong:
        search s of w { minimize kl }
        search t of w { maximize params }
        eval e of s = tasks("a.jsonl") { full = t }
    Right:
        search s of w { minimize kl }
        search t of w { maximize params }
        eval e of s = tasks("a.jsonl") { full = s + t }
    """

    code = "E0431"
    template = "`full` leaves out `{child}`, the child that `{evaluation}` evaluates"
    help_template = "write `full = {written}`"


class PromptsNotAFile(Diagnostic):
    """`prompts` with a string that names neither a `.jsonl` nor a `.txt` file.

    A string is the path of a file: `.txt` with blank lines between prompts, or `.jsonl` with a `prompt` or `messages` on each
    line. An evaluation also takes prompts that stand in the program, as `prompts("…", "…")`.

    Wrong:
        search s of w { minimize kl }
        eval e of s { prompts = "Once upon a time" }
    Right:
        search s of w { minimize kl }
        eval e of s { prompts = prompts("Once upon a time") }
    """

    code = "E0432"
    template = "`prompts` names a file of prompts, and `{path}` is neither a `.jsonl` nor a `.txt` file"
    help_template = 'write `"prompts.txt"`, with blank lines between prompts, or `"prompts.jsonl"`'
