"""Check of pieces and of the scores that read them, at check time, before hours of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.entry_points import entry_points
from puzzledsl.base.stage_errors import CannotRealise, NoFit, NoPieceForAlternative
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of

MODULES = "puzzledsl.models.alternatives"
"""Entry points of the modules of packages' alternatives."""


def check_pieces(program: nodes.Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Return the diagnostics of blds and scores. `files` maps a place's file to its name in diagnostics."""

    def span(where: nodes.Where) -> Span:
        return span_of(where, files.get(where.file))

    found: list[Diagnostic] = []
    for bld in program.blds.values():
        found += (CannotRealise(span(bld.where), alternative=name) for name in _without_module(program, bld))
    for score in program.scores.values():
        if isinstance(score.method, nodes.ReplaceOne) and score.bld is not None:
            found += _of_score(program, score, score.method, program.blds[score.bld], span(score.where))
    return found


def _without_module(program: nodes.Program, bld: nodes.Bld) -> Iterator[str]:
    """Yield the alternatives of packages that have no module."""
    of_packages = {
        alternative.kind: alternative.name
        for layer in program.spaces[bld.space].layers
        for alternative in (*layer.attention, *layer.ffn)
        if not type(alternative).__module__.startswith("puzzledsl.")
    }
    if of_packages:
        known = {entry.name for entry in entry_points(MODULES)}
        yield from (name for kind, name in of_packages.items() if kind not in known)


def _of_score(
    program: nodes.Program, score: nodes.Score, method: nodes.ReplaceOne, bld: nodes.Bld, span: Span
) -> Iterator[Diagnostic]:
    if method.metric != "kl_divergence" or method.around is not None:
        what = f"`{method.metric}` scores" if method.around is None else "scores around a child"
        if method.children:
            yield NoFit(span, score=score.name, what=what)
    for sub_block in SUB_BLOCKS:
        if sub_block not in bld.sub_blocks and (first := _first(program.spaces[bld.space], sub_block)):
            layer, alternative = first
            what = f"{'FFN' if sub_block == 'ffn' else sub_block} `{alternative.name}`"
            yield NoPieceForAlternative(span, score=score.name, bld=bld.name, what=what, layer=layer)


def _first(space: nodes.Space, sub_block: SubBlock) -> tuple[int, Alternative] | None:
    """Return the first alternative of a sub-block that needs a piece, with its layer."""
    for layer, choice in enumerate(space.layers):
        for alternative in choice.attention if sub_block == "attention" else choice.ffn:
            if alternative.trainable:
                return layer, alternative
    return None
