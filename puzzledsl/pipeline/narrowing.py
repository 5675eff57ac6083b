"""Spaces narrowed to the solutions of another search (`used_by`)."""

from __future__ import annotations

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import SearchResult


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
            result = _solution(build, used_by.search) if resolve(wide) else None
            if result is not None and _chosen_in(spaces[wide], result):
                done[name] = True
                spaces[name] = narrowed(spaces[name], spaces[wide], result, used_by.top)
        return done[name]

    waiting = tuple(name for name in program.spaces if not resolve(name))
    return program.model_copy(update={"spaces": spaces}), waiting


def _solution(build: BuildDir, search: str) -> SearchResult | None:
    try:
        return SearchResult.from_json(build.solution(search).read_bytes())
    except (OSError, ValueError):
        return None


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
