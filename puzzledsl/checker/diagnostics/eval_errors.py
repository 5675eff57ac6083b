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
