"""`pzl compile`: write everything that needs no weights to the build directory; and the checks that a search is ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.base.phrases import closest
from puzzledsl.ir.base import span_of
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingDeclared, NotReady, UnknownTarget
from puzzledsl.pipeline.inputs import missing_tables
from puzzledsl.pipeline.opening import resolve_used_by
from puzzledsl.plan.space_table import SpaceTable


def chosen(
    kind: str, declared: Mapping[str, object], names: Iterable[str] | None, file: Path, stage: str = "solve"
) -> list[str]:
    """Return the names given, or all declared ones. Raises DiagnosticError for an unknown name or if none is declared."""
    wanted, help = list(names or declared), f"declared: {', '.join(declared) or 'none'}"
    if unknown := [name for name in wanted if name not in declared]:
        near = [(name, closest(name, declared)) for name in unknown]
        raise DiagnosticError(*(UnknownTarget(None, kind=kind, name=n, near=c, help=help) for n, c in near))
    if not wanted:
        help = f"add one to {file.name}, or run a stage that it declares"
        raise DiagnosticError(NothingDeclared(None, kind=kind, stage=stage, help=help))
    return wanted


def not_ready(ctx: Context, search: str) -> NotReady | None:
    """Return the diagnostic of a search with missing inputs, with the commands that make them; None if it is ready."""
    scores, scenarios = missing_tables(ctx, search)
    file, commands = ctx.typed, []
    if scenarios:
        commands.append(f"`pzl measure {file}` measures costs on this machine")
    for name in scores:
        commands.append(f"`pzl score {file} {name}` makes the scores (after `pzl bld {file}`)")
    if not commands:
        return None
    where = span_of(ctx.program.searches[search].where)
    described = " and ".join(_in_words(scores, scenarios))
    return NotReady(where, name=search, missing=described, help="; ".join(commands))


def _in_words(scores: list[str], scenarios: list[str]) -> list[str]:
    return [*(f"score `{name}`" for name in scores), *(f"costs of scenario `{name}`" for name in scenarios)]


COMPILE = "compile"
"""The stage in its stamp. Every run makes it again and no task reads it."""


def compile_program(ctx: Context, *, models: bool = True) -> tuple[dict[str, Any], str]:
    """Write ir.json, the BLD plans, the cost tables and (with `models`) the CP-SAT models whose inputs exist.

    Return what was written, and the sizes of spaces and BLDs, as a document and as text.
    """
    from puzzledsl.costs.table import cost_table

    program, build = ctx.program, ctx.build
    files, lines = list[str](), list[str]()
    spaces, blds, missing = dict[str, object](), dict[str, object](), dict[str, object]()

    def wrote(path: Path, content: bytes) -> None:
        write_bytes(path, content)
        files.append(str(path.relative_to(build.root)))

    used = {name: space.used_by for name, space in program.spaces.items() if space.used_by is not None}
    waiting = {name: used[name].search for name in resolve_used_by(program, build)[1]}
    wrote(build.program, program.canonical_json().encode())
    for name, space in program.spaces.items():
        sizes = [(len(choice.attention), len(choice.ffn)) for choice in space.layers]
        children = SpaceTable(program, space).log10_children
        spaces[name] = {"layers": len(sizes), "alternatives": sizes, "log10_children": children}
        known = f"known once `{waiting[name]}` is solved" if name in waiting else _size_text(sizes, children)
        lines.append(f"space {name}: {known}")
    for name, bld in program.blds.items():
        if bld.space not in waiting:
            jobs = inputs.pieces_of(ctx, name)
            wrote(build.bld_plan(name), "".join(job.model_dump_json() + "\n" for job in jobs).encode())
            tokens = sum(job.tokens for job in jobs)
            blds[name] = {"jobs": len(jobs), "tokens": tokens}
            lines.append(f"bld {name}: {len(jobs):,} jobs, {tokens:,} tokens")
    for name in (name for name in program.spaces if name not in waiting):
        wrote(build.costs(name), cost_table(program, name, ctx.base).canonical_json().encode())
    for name, search in program.searches.items() if models else ():
        if search.space in waiting:
            continue
        if lacks := _in_words(*missing_tables(ctx, name)):
            missing[name] = lacks
            lines.append(f"search {name}: waits for {', '.join(lacks)}")
            continue
        from puzzledsl.search.solve import cpsat_model

        tables = inputs.costs_of(ctx, search.space), inputs.scores_of(ctx, name)
        wrote(build.cpsat_model(name), cpsat_model(program, name, *tables))
    ctx.stamps.write(COMPILE, "", {"program": program.digest()}, [build.root / file for file in files])
    here = Path.cwd()
    shown = build.root.relative_to(here) if build.root.is_relative_to(here) else build.root
    lines.append(f"wrote {len(files)} files to {shown}")
    known_of = {"spaces": spaces, "bld": blds, "waiting": waiting, "missing": missing}
    return {"build": str(build.root), "files": files, **known_of}, "\n".join(lines)


def _size_text(sizes: Sequence[tuple[int, int]], log10_children: float) -> str:
    """Return the size of a space by the (attention, ffn) alternatives of each layer, and what overrides leave of it."""
    most = max(attention * ffn for attention, ffn in sizes)
    whole = max(len(sizes) * log10(most), log10_children)
    text = f"{len(sizes)} layers, {most} alternatives a layer, 10^{whole:.1f} children"
    return text + (f", 10^{log10_children:.1f} after overrides" if log10_children < whole - 0.05 else "")
