"""Declarations named on the command line, and the check that their inputs exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.phrases import closest
from puzzledsl.ir.base import span_of
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingDeclared, NotReady, UnknownTarget
from puzzledsl.pipeline.inputs import missing_tables


def chosen(
    kind: str,
    declared: Mapping[str, object],
    names: Iterable[str] | None,
    file: Path,
    stage: str = "solve",
) -> list[str]:
    """Return the names given, or all declared ones. Raises DiagnosticError for an unknown name or if none is declared."""
    wanted = list(names or declared)
    unknown = [name for name in wanted if name not in declared]
    if unknown:
        raise DiagnosticError(*(_unknown(kind, name, declared) for name in unknown))
    if not wanted:
        help = f"add one to {file.name}, or run a stage that it declares"
        raise DiagnosticError(NothingDeclared(None, kind=kind, stage=stage, help=help))
    return wanted


def _unknown(kind: str, name: str, declared: Mapping[str, object]) -> UnknownTarget:
    close = closest(name, declared)
    help = f"declared: {', '.join(declared) or 'none'}"
    return UnknownTarget(None, kind=kind, name=name, near=close, help=help)


def not_ready(ctx: Context, search: str) -> NotReady | None:
    """Return the diagnostic of a search with missing inputs, with the commands that make them; None if it is ready."""
    missing = missing_tables(ctx, search)
    file, commands = ctx.file, []
    if missing.scenarios:
        commands.append(f"`pzl measure {file}` measures costs on this machine")
    for name in sorted(missing.scores):
        commands.append(f"`pzl score {file} {name}` makes the scores (after `pzl bld {file}`)")
    if not commands:
        return None
    where, described = span_of(ctx.program.searches[search].where), " and ".join(missing.described())
    return NotReady(where, name=search, missing=described, help="; ".join(commands))
