"""Open a file or a text as a checked program with a run context. Shared by the commands and the Python API.

Needs that several tasks share: the tasks that make tables, pieces and children.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.checker.check import Checked
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.inputs import blds_of as blds_of
from puzzledsl.pipeline.inputs import measured_scenarios, solution_of
from puzzledsl.pipeline.task import Key

if TYPE_CHECKING:
    from puzzledsl.checker.context import Context as CheckContext


def narrowing(ctx: Context, space: str) -> tuple[Key, ...]:
    """Return the search whose solutions narrow a space."""
    used_by = ctx.program.spaces[space].used_by
    return (("solve", used_by.search),) if used_by else ()


def tables(ctx: Context, search: str) -> tuple[Key, ...]:
    """Return the measurements and scores that a search reads."""
    space = ctx.program.searches[search].space
    scores = [("score", name) for name in measured_scores(ctx.program, search)]
    measured = [("measure", space)] if measured_scenarios(ctx.program) else []
    return (*narrowing(ctx, space), *measured, *scores)


def measured_scores(program: nodes.Program, search: str) -> list[str]:
    """Return the scores of a search's space that are measured, and made before the search is solved."""
    space, scores = program.searches[search].space, program.scores.items()
    return [n for n, s in scores if isinstance(s.method, nodes.ReplaceOne) and s.space == space]


def pieces(program: nodes.Program, space: str) -> tuple[Key, ...]:
    """Return the tasks that make the pieces of a space."""
    return tuple(("bld", name) for name in blds_of(program, space))


def child(program: nodes.Program, model: str) -> Key:
    """Return the task that makes a child's checkpoint."""
    return "uptrain" if model in program.uptrains else "realise", model


def has_pieces(program: nodes.Program, search: str) -> bool:
    """Return True if children of a search's space can be built: the parent has weights and a BLD makes pieces."""
    space = program.spaces[program.searches[search].space]
    return isinstance(program.parents[space.parent].source, nodes.HfSource) and bool(
        blds_of(program, space.name)
    )


def has_child(ctx: Context, search: str) -> bool:
    """Return True if a search's child is built. One that is not solved yet is expected to have a solution."""
    if not ctx.program.searches[search].realise or not has_pieces(ctx.program, search):
        return False
    try:
        return bool(solution_of(ctx, search).solutions)
    except DiagnosticError:  # not solved, or damaged and solved again
        return True


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked program; `context` is None if it has errors, and what the check `found` if the file cannot be read."""

    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]
    context: Context | None
    found: CheckContext | None


def open_program(
    file: Path, settings: Mapping[str, str], build: Path | None = None, text: str | None = None
) -> Opened:
    """Check a file and prepare its run. Never raises for a user's mistake.

    Args:
        file: The `.pzl` file. Its relative paths start at its directory.
        settings: Parameters by name, as `--set NAME=VALUE` gives them.
        build: The build directory; `build/` beside the file by default.
        text: A text that stands for the file's, which need not exist then.
    """
    from puzzledsl.checker.check import inspect

    unsaved = None if text is None else {os.path.realpath(file): text}
    checked, found = inspect(file, dict(settings), unsaved)
    context = None if checked.program is None else context_of(file, checked, build)
    return Opened(checked.diagnostics, checked.sources, context, found)


def context_of(file: Path, checked: Checked, build: Path | None = None) -> Context:
    """Return the run context of a program without errors.

    `used_by` spaces are narrowed if their search is solved.
    """
    assert checked.program is not None, "a program with errors has no context"
    layout = BuildDir(Path(os.path.realpath(build or file.parent / "build")))
    program, _ = resolve_used_by(checked.program, layout)
    source = next((text for name, text in checked.sources.items() if Path(name).name == file.name), "")
    return Context(file=file, program=program, build=layout, source=source)


def resolve_used_by(program: nodes.Program, build: BuildDir) -> tuple[nodes.Program, tuple[str, ...]]:
    """Return the program with its `used_by` spaces narrowed, and the names of those whose search is not solved yet.

    A space is always narrowed from the search's own space, even if an earlier solution has narrowed the program
    already. A solution with choices that the search's space lacks, such as one from another program in the same build
    directory, is ignored.
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
    return program.model_copy(update={"spaces": spaces}), waiting


def _chosen_in(space: nodes.Space, result: SearchResult) -> bool:
    """Return True if a space contains every child of a result."""
    offered = [({a.name for a in layer.attention}, {a.name for a in layer.ffn}) for layer in space.layers]
    return all(
        len(solution.of_layers) == len(offered)
        and all(
            choice.attention in attention and choice.ffn in ffn
            for choice, (attention, ffn) in zip(solution.of_layers, offered, strict=True)
        )
        for solution in result.solutions
    )


def narrowed(space: nodes.Space, wide: nodes.Space, result: SearchResult, top: int) -> nodes.Space:
    """Return `space` with `parent` and the alternatives of `wide` that the `top` best solutions choose, layer by layer."""
    best = result.solutions[:top]
    layers = []
    for index, choice in enumerate(wide.layers):
        attention = {s.of_layers[index].attention for s in best} | {"parent"}
        ffn = {s.of_layers[index].ffn for s in best} | {"parent"}
        layers.append(
            nodes.LayerChoice(
                attention=tuple(a for a in choice.attention if a.name in attention),
                ffn=tuple(f for f in choice.ffn if f.name in ffn),
            )
        )
    return space.model_copy(update={"layers": tuple(layers)})
