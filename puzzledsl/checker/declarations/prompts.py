"""`prompts = "p.jsonl"`, `prompts("…", "…")` or `none` of an `eval`: what parent and child answer side by side."""

from __future__ import annotations

from pathlib import PurePath

from puzzledsl.base.diagnostics import Fix
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import as_call, read_call
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.eval_errors import PromptsNotAFile
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Poison, Text
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

PROMPT_FILES = (".jsonl", ".txt")


def read_prompts(ctx: Context, settings: Settings) -> nodes.Prompts | None:
    """The setting; None where it is not written, and where it has a mistake, which is reported."""
    if not settings.has("prompts"):
        return None
    entry, takes = settings.entry("prompts"), settings.known("prompts")
    expr, call = entry.expr, None
    if isinstance(expr, tree.Call | tree.Name) and _word(expr) in takes.calls:
        call = read_call(ctx, expr, entry.scope, takes)
    else:
        value = settings.value("prompts")
        if isinstance(value, Text):
            return nodes.Prompts(path=path) if (path := prompts_file(ctx, settings)) else None
        if isinstance(value, Poison):
            return None
        if not isinstance(value, Constructed):
            wanted, got = "a file, `prompts(…)` or `none`", f"`{ctx.source(expr.span)}`"
            help = 'write `prompts = "p.jsonl"`, or `prompts = prompts("Once upon a time")`'
            ctx.report(types.WrongType(expr.span, what="`prompts`", wanted=wanted, got=got, help=help))
            return None
        call = as_call(ctx, value, expr.span, takes)
    if call is None:
        return None
    given = from_call(ctx, call, takes.calls[call.name])
    if call.name == "none":
        return nodes.Prompts()
    given.need("prompt", help='write `prompts("Once upon a time")`')
    texts = tuple(given.text(key) for key in given.entries)
    return None if given.failed else nodes.Prompts(texts=texts)


def prompts_file(ctx: Context, settings: Settings) -> str:
    """The path of a file of prompts; empty, reported, for a text that is none."""
    path = settings.text("prompts")
    if path and PurePath(path).suffix not in PROMPT_FILES:
        place = settings.place("prompts")
        help, fixes = None, []
        if settings.known("prompts").calls:
            written = f"prompts({ctx.source(place)})"
            help = f"write `{written}`, or the name of a `.jsonl` or `.txt` file"
            fixes = [Fix.replace(place, written, safe=False)]
        ctx.report(PromptsNotAFile(place, path=path, help=help, fixes=fixes))
        return ""
    return path


def _word(expr: tree.Call | tree.Name) -> str:
    word = expr.function if isinstance(expr, tree.Call) else expr
    return word.text if isinstance(word, tree.Name) else ""
