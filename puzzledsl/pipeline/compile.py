"""`pzl compile`: write everything that needs no weights to the build directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import log10
from pathlib import Path

from puzzledsl.base.files import write_bytes
from puzzledsl.ir import nodes
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.rounds.narrow import resolve_used_by
from puzzledsl.pipeline.stamps import MADE_BY
from puzzledsl.plan.summary import SpaceSummary, space_summary

COMPILE = "compile"
"""The stage in its stamp. Every run makes it again and no task reads it."""


@dataclass
class Compiled:
    """Result of a compilation. `waiting` maps each undetermined space to the search that must be solved first."""

    build: Path
    files: list[Path] = field(default_factory=list)
    spaces: dict[str, SpaceSummary] = field(default_factory=dict)
    jobs: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> jobs, tokens
    waiting: dict[str, str] = field(default_factory=dict)
    unscored: dict[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the result as a JSON object."""
        return {
            "build": str(self.build),
            "files": [str(path.relative_to(self.build)) for path in self.files],
            "spaces": {
                name: {"layers": s.layers, "alternatives": s.alternatives, "log10_children": s.log10_children}
                for name, s in self.spaces.items()
            },
            "bld": {name: {"jobs": jobs, "tokens": tokens} for name, (jobs, tokens) in self.jobs.items()},
            "waiting": self.waiting,
            "missing": self.unscored,
        }

    def as_text(self) -> str:
        """Return the result as text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, space in self.spaces.items():
            if name in self.waiting:
                yield f"space {name}: known once `{self.waiting[name]}` is solved"
            else:
                most = max(attention * ffn for attention, ffn in space.alternatives)
                whole = space.layers * log10(most) + log10(space.ends)
                size = f"10^{whole:.1f} children"
                if space.log10_children < whole - 0.05:
                    size += f", 10^{space.log10_children:.1f} after overrides"
                yield f"space {name}: {space.layers} layers, {most} alternatives a layer, {size}"
        for name, (jobs, tokens) in self.jobs.items():
            yield f"bld {name}: {jobs:,} jobs, {tokens:,} tokens"
        for name, missing in self.unscored.items():
            yield f"search {name}: waits for {', '.join(missing)}"
        here = Path.cwd()
        shown = self.build.relative_to(here) if self.build.is_relative_to(here) else self.build
        yield f"wrote {len(self.files)} files to {shown}"


def compile_program(ctx: Context, *, models: bool = True) -> Compiled:
    """Write ir.json, the BLD plans, the cost tables and (with `models`) the CP-SAT models whose inputs exist."""
    compiled = Compiled(ctx.build.root)

    def wrote(path: Path, content: str | bytes) -> None:
        write_bytes(path, content.encode() if isinstance(content, str) else content)
        compiled.files.append(path)

    _, not_narrowed = resolve_used_by(ctx.program, ctx.build)
    wrote(ctx.build.program, ctx.program.canonical_json())
    for name, space in ctx.program.spaces.items():
        compiled.spaces[name] = space_summary(ctx.program, name)
        if space.used_by is not None and name in not_narrowed:
            compiled.waiting[name] = space.used_by.search
    for name, bld in ctx.program.blds.items():
        if bld.space not in compiled.waiting:
            jobs = inputs.jobs_of(ctx, name)
            wrote(
                ctx.build.bld_plan(name),
                "".join(job.model_dump_json() + "\n" for job in jobs),
            )
            compiled.jobs[name] = (len(jobs), sum(job.tokens for job in jobs))
    for name in ctx.program.spaces:
        if name not in compiled.waiting:
            wrote(ctx.build.costs(name), _costs(ctx, name))
    for name, search in ctx.program.searches.items() if models else ():
        if search.space not in compiled.waiting:
            _model(ctx, name, search, compiled, wrote)
    ctx.stamps.write(COMPILE, "", {"program": ctx.program.digest()}, compiled.files, MADE_BY)
    return compiled


def _costs(ctx: Context, space: str) -> str:
    from puzzledsl.costs.table import cost_table

    return cost_table(ctx.program, space, ctx.base).canonical_json()


def _model(
    ctx: Context,
    name: str,
    search: nodes.Search,
    compiled: Compiled,
    wrote: Callable[[Path, bytes], None],
) -> None:
    from puzzledsl.search.solve import cpsat_model

    if missing := inputs.missing_tables(ctx, name).described():
        compiled.unscored[name] = missing
        return
    model = cpsat_model(ctx.program, name, inputs.costs_of(ctx, search.space), inputs.scores_of(ctx, name))
    wrote(ctx.build.cpsat_model(name), model)
