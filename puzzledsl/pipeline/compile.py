"""From a file or a text to a checked program with a run context, shared by the commands and the Python API.

And `pzl compile`, which writes everything that needs no weights to the build directory.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import write_bytes
from puzzledsl.base.phrases import closest
from puzzledsl.checker.check import Checked, inspect
from puzzledsl.checker.context import Context as CheckContext
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import NothingDeclared, UnknownTarget
from puzzledsl.plan.space_table import SpaceTable


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked program. `context` is None if it has errors; `found`, the checker's context, is None for an unreadable file."""

    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]
    context: Context | None
    found: CheckContext | None


def open_program(
    file: Path, settings: Mapping[str, str], build: Path | None = None, text: str | None = None
) -> Opened:
    """Check a file and prepare its run. A user's mistake is in the result's `diagnostics`, and never raised.

    `build`: the build directory; `build/` beside the file by default. `text` replaces the file's text; the file need not exist.
    """
    unsaved = None if text is None else {os.path.realpath(file): text}
    checked, found = inspect(file, dict(settings), unsaved)
    context = None if checked.program is None else context_of(file, checked, build)
    return Opened(checked.diagnostics, checked.sources, context, found)


def context_of(file: Path, checked: Checked, build: Path | None = None) -> Context:
    """Return the run context of a program without errors, with its `used_by` spaces narrowed if their search is solved."""
    assert checked.program is not None, "a program with errors has no context"
    layout = BuildDir(Path(os.path.realpath(build or file.parent / "build")))
    program, _ = resolve_used_by(checked.program, layout)
    source = next((text for name, text in checked.sources.items() if Path(name).name == file.name), "")
    return Context(file=file, program=program, build=layout, source=source)


def resolve_used_by(program: nodes.Program, build: BuildDir) -> tuple[nodes.Program, tuple[str, ...]]:
    """Return the program with its `used_by` spaces narrowed, and the names of those whose search is not solved yet.

    A space is always narrowed from the search's own space, even if an earlier solution has narrowed the program already. A
    solution with choices that the search's space lacks, such as one from another program in the same build directory, is ignored.
    """
    spaces = dict(program.spaces)
    done: dict[str, bool] = {}

    def resolve(name: str) -> bool:
        used_by = spaces[name].used_by
        if used_by is None:
            return True
        if name not in done:
            done[name] = False  # also where a circle asks again
            wide = program.searches[used_by.search].space
            result = SearchResult.of_file(build.solution(used_by.search)) if resolve(wide) else None
            if result is not None and _chosen_in(spaces[wide], result):
                done[name] = True
                spaces[name] = narrowed(spaces[name], spaces[wide], result, used_by.top)
        return done[name]

    waiting = tuple(name for name in program.spaces if not resolve(name))
    is_same = spaces == dict(program.spaces)  # the same object, for which `Context.once` keeps its results
    return program if is_same else program.model_copy(update={"spaces": spaces}), waiting


def _chosen_in(space: nodes.Space, result: SearchResult) -> bool:
    """Return True if a result has children, and a space contains every one."""
    offered = [{(a.name, f.name) for a in c.attention for f in c.ffn} for c in space.layers]
    children = ([(c.attention, c.ffn) for c in solution.of_layers] for solution in result.solutions)
    fits = (len(taken) == len(offered) and all(map(set.__contains__, offered, taken)) for taken in children)
    return bool(result.solutions) and all(fits)


def narrowed(space: nodes.Space, wide: nodes.Space, result: SearchResult, top: int) -> nodes.Space:
    """Return `space` with `parent` and the alternatives of `wide` that the `top` best solutions choose, layer by layer."""
    best = result.solutions[:top]
    layers = []
    for index, choice in enumerate(wide.layers):
        attention = {s.of_layers[index].attention for s in best} | {"parent"}
        ffn = {s.of_layers[index].ffn for s in best} | {"parent"}
        kept = tuple(a for a in choice.attention if a.name in attention)
        layers.append(nodes.LayerChoice(attention=kept, ffn=tuple(f for f in choice.ffn if f.name in ffn)))
    return space.model_copy(update={"layers": tuple(layers)})


def chosen(
    kind: str, declared: Mapping[str, object], names: Iterable[str] | None, file: Path, stage: str = "solve"
) -> list[str]:
    """Return `names`, or all declared ones without any. Raises DiagnosticError for an unknown name, or if none is declared."""
    wanted, help = list(names or declared), f"declared: {', '.join(declared) or 'none'}"
    if unknown := [name for name in wanted if name not in declared]:
        near = [(name, closest(name, declared)) for name in unknown]
        raise DiagnosticError(*(UnknownTarget(None, kind=kind, name=n, near=c, help=help) for n, c in near))
    if not wanted:
        help = f"add one to {file.name}, or run a stage that it declares"
        raise DiagnosticError(NothingDeclared(None, kind=kind, stage=stage, help=help))
    return wanted


def shown_path(path: Path) -> Path:
    """Return a path relative to the current directory if it lies below that, else unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


COMPILE = "compile"
"""Stage in the stamp of `compile_program`. Every run compiles again, and no task depends on the stamp."""


def compile_program(ctx: Context, *, models: bool = True) -> tuple[dict[str, Any], str]:
    """Write ir.json, the BLD plans, the cost tables and (with `models`) the CP-SAT models whose inputs exist.

    Return the files written and the sizes of spaces and BLDs, as a JSON object and as text.
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
        if lacks := inputs.missing_tables(ctx, name):
            missing[name] = [*lacks]
            lines.append(f"search {name}: waits for {', '.join(lacks)}")
            continue
        from puzzledsl.search.solve import cpsat_model

        wrote(build.cpsat_model(name), cpsat_model(program, name, *inputs.read_tables(ctx, name)))
    ctx.stamps.write(COMPILE, "", {"program": program.digest()}, [build.root / file for file in files])
    lines.append(f"wrote {len(files)} files to {shown_path(build.root)}")
    known_of = {"spaces": spaces, "bld": blds, "waiting": waiting, "missing": missing}
    return {"build": str(build.root), "files": files, **known_of}, "\n".join(lines)


def _size_text(sizes: Sequence[tuple[int, int]], log10_children: float) -> str:
    """Return a space's size as text. `sizes`: (attention, FFN) alternatives of each layer; `log10_children`: after overrides."""
    most = max(attention * ffn for attention, ffn in sizes)
    whole = max(len(sizes) * log10(most), log10_children)
    text = f"{len(sizes)} layers, {most} alternatives a layer, 10^{whole:.1f} children"
    return text + (f", 10^{log10_children:.1f} after overrides" if log10_children < whole - 0.05 else "")
