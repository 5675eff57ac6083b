"""`pzl compile`: write everything that needs no weights to the build directory; and the checks that a search is ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import log10
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.base.frozen import record
from puzzledsl.base.phrases import closest
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingDeclared, NotReady, UnknownTarget
from puzzledsl.pipeline.inputs import missing_tables
from puzzledsl.pipeline.opening import resolve_used_by
from puzzledsl.pipeline.stamps import MADE_BY
from puzzledsl.plan.space_table import SpaceTable


def chosen(
    kind: str, declared: Mapping[str, object], names: Iterable[str] | None, file: Path, stage: str = "solve"
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
    file, commands = ctx.typed, []
    if missing.scenarios:
        commands.append(f"`pzl measure {file}` measures costs on this machine")
    for name in sorted(missing.scores):
        commands.append(f"`pzl score {file} {name}` makes the scores (after `pzl bld {file}`)")
    if not commands:
        return None
    where, described = span_of(ctx.program.searches[search].where), " and ".join(missing.described())
    return NotReady(where, name=search, missing=described, help="; ".join(commands))


COMPILE = "compile"
"""The stage in its stamp. Every run makes it again and no task reads it."""


@record
class CompiledSpace:
    """Size of a space: `alternatives` has (attention, ffn) for each layer."""

    layers: int
    alternatives: tuple[tuple[int, int], ...]
    log10_children: float


@record
class CompiledBld:
    """Number of pieces of a BLD, and the tokens that train them."""

    jobs: int
    tokens: int


@record
class Compiled:
    """Files written to a build directory. `waiting`: space -> the search that narrows it. `missing`: scores not measured yet."""

    build: str
    files: list[str]
    spaces: dict[str, CompiledSpace]
    bld: dict[str, CompiledBld]
    waiting: dict[str, str]
    missing: dict[str, list[str]]

    def as_text(self) -> str:
        """Return the result as text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, space in self.spaces.items():
            if name in self.waiting:
                yield f"space {name}: known once `{self.waiting[name]}` is solved"
            else:
                most = max(attention * ffn for attention, ffn in space.alternatives)
                whole = max(space.layers * log10(most), space.log10_children)
                size = f"10^{whole:.1f} children"
                if space.log10_children < whole - 0.05:
                    size += f", 10^{space.log10_children:.1f} after overrides"
                yield f"space {name}: {space.layers} layers, {most} alternatives a layer, {size}"
        for name, bld in self.bld.items():
            yield f"bld {name}: {bld.jobs:,} jobs, {bld.tokens:,} tokens"
        for name, missing in self.missing.items():
            yield f"search {name}: waits for {', '.join(missing)}"
        here, build = Path.cwd(), Path(self.build)
        shown = build.relative_to(here) if build.is_relative_to(here) else build
        yield f"wrote {len(self.files)} files to {shown}"


def compile_program(ctx: Context, *, models: bool = True) -> Compiled:
    """Write ir.json, the BLD plans, the cost tables and (with `models`) the CP-SAT models whose inputs exist."""
    compiled = Compiled(str(ctx.build.root), [], {}, {}, {}, {})

    def wrote(path: Path, content: str | bytes) -> None:
        write_bytes(path, content.encode() if isinstance(content, str) else content)
        compiled.files.append(str(path.relative_to(ctx.build.root)))

    _, not_narrowed = resolve_used_by(ctx.program, ctx.build)
    wrote(ctx.build.program, ctx.program.canonical_json())
    for name, space in ctx.program.spaces.items():
        sizes = tuple((len(choice.attention), len(choice.ffn)) for choice in space.layers)
        children = SpaceTable(ctx.program, space).log10_children
        compiled.spaces[name] = CompiledSpace(len(sizes), sizes, children)
        if space.used_by is not None and name in not_narrowed:
            compiled.waiting[name] = space.used_by.search
    for name, bld in ctx.program.blds.items():
        if bld.space not in compiled.waiting:
            jobs = inputs.pieces_of(ctx, name)
            wrote(ctx.build.bld_plan(name), "".join(job.model_dump_json() + "\n" for job in jobs))
            compiled.bld[name] = CompiledBld(len(jobs), sum(job.tokens for job in jobs))
    for name in ctx.program.spaces:
        if name not in compiled.waiting:
            wrote(ctx.build.costs(name), _costs(ctx, name))
    for name, search in ctx.program.searches.items() if models else ():
        if search.space not in compiled.waiting:
            _model(ctx, name, search, compiled, wrote)
    files = [ctx.build.root / file for file in compiled.files]
    ctx.stamps.write(COMPILE, "", {"program": ctx.program.digest()}, files, MADE_BY)
    return compiled


def _costs(ctx: Context, space: str) -> str:
    from puzzledsl.costs.table import cost_table

    return cost_table(ctx.program, space, ctx.base).canonical_json()


def _model(
    ctx: Context, name: str, search: nodes.Search, compiled: Compiled, wrote: Callable[[Path, bytes], None]
) -> None:
    from puzzledsl.search.solve import cpsat_model

    if missing := inputs.missing_tables(ctx, name).described():
        compiled.missing[name] = missing
        return
    model = cpsat_model(ctx.program, name, inputs.costs_of(ctx, search.space), inputs.scores_of(ctx, name))
    wrote(ctx.build.cpsat_model(name), model)
