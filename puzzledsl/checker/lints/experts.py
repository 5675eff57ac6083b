"""Lint of calibration texts that give an expert too few tokens to fit it to."""

from __future__ import annotations

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import FewTokensAnExpert
from puzzledsl.checker.lints.vacuous import span_of
from puzzledsl.ir import nodes

KIBI = 1024


def warn_of_few_tokens(ctx: Context, program: nodes.Program) -> None:
    """Report each BLD whose calibration text has fewer tokens for an expert than the expert has channels."""
    for bld in program.blds.values():
        shapes = [own for own in _refitted(program, bld) if _needed(own) > bld.calibration_tokens]
        if "ffn" not in bld.sub_blocks or not shapes:
            continue
        own = max(shapes, key=_needed)
        ctx.report(
            FewTokensAnExpert(
                span_of(ctx, bld.where),
                seen=bld.calibration_tokens * own.top_k // own.experts,
                calibration=bld.calibration_tokens,
                width=own.expert_width,
                needed=f"{-(-_needed(own) // KIBI)}Ki",
            )
        )


def _refitted(program: nodes.Program, bld: nodes.Bld) -> list[Shape]:
    """The shapes of layers whose mixtures a BLD makes smaller."""
    space = program.spaces[bld.space]
    each = program.parents[space.parent].shape.each
    return [
        own
        for own, layer in zip(each, space.layers, strict=True)
        if any(isinstance(alternative, MoeFfn) for alternative in layer.ffn)
    ]


def _needed(shape: Shape) -> int:
    """The tokens that give each expert as many as it has channels, if all experts have equally many."""
    return -(-shape.expert_width * shape.experts // shape.top_k)
