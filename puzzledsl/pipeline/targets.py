"""Declarations named on the command line, and the check that their inputs exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.suggest import closest
from puzzledsl.ir.source_location import span_of
from puzzledsl.pipeline.compile import missing_tables
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingDeclared, NotReady, UnknownTarget


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
    if not missing:
        return None
    commands = []
    if any("scenario" in item for item in missing):
        commands.append(f"`pzl measure {ctx.file}` measures costs on this machine")
    for item in missing:
        if item.startswith("score"):
            name = item.split("`")[1]
            commands.append(f"`pzl score {ctx.file} {name}` makes the scores (after `pzl bld {ctx.file}`)")
    where = span_of(ctx.program.searches[search].where)
    return NotReady(where, name=search, missing=" and ".join(missing), help="; ".join(commands))
