"""`space narrow of wide = used_by(search, top: n)`: the sub-space of what a solved search uses."""

from __future__ import annotations

from puzzledsl.ir import nodes
from puzzledsl.ir.alternatives import name_of
from puzzledsl.ir.tables import SearchResult
from puzzledsl.layout import BuildDir


def resolve_used_by(program: nodes.Program, build: BuildDir) -> tuple[nodes.Program, tuple[str, ...]]:
    """The program with every `used_by` space narrowed, and the names of those whose search is not solved yet."""
    spaces, waiting = dict(program.spaces), []
    for name, space in program.spaces.items():
        if space.used_by is None:
            continue
        try:
            result = SearchResult.from_json(build.solution(space.used_by.search).read_bytes())
        except (OSError, ValueError):
            waiting.append(name)
            continue
        spaces[name] = narrowed(space, result, space.used_by.top)
    return program.model_copy(update={"spaces": spaces}), tuple(waiting)


def narrowed(space: nodes.Space, result: SearchResult, top: int) -> nodes.Space:
    """Keep, in each layer, the alternatives that one of the `top` first solutions chooses; `parent` always stays."""
    best = result.solutions[:top]
    layers = []
    for index, choice in enumerate(space.layers):
        attention = {s.layers[index].attention for s in best} | {"parent"}
        ffn = {s.layers[index].ffn for s in best} | {"parent"}
        layers.append(
            nodes.LayerChoice(
                attention=tuple(a for a in choice.attention if name_of(a) in attention),
                ffn=tuple(f for f in choice.ffn if name_of(f) in ffn),
            )
        )
    return space.model_copy(update={"layers": tuple(layers)})
