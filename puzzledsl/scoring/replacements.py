"""What is to be scored: every alternative of every layer (or every pair), and the modules that stand for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.data.errors import span_of
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.alternatives import (
    Alternative,
    AttentionAlternative,
    FfnAlternative,
    ParentAttention,
    ParentFfn,
    SubBlock,
    name_of,
)
from puzzledsl.ir.tables import BldJob
from puzzledsl.library.library import Library
from puzzledsl.modeling.assemble import load_piece
from puzzledsl.modeling.build import build_alternative
from puzzledsl.modeling.replace import replace
from puzzledsl.scoring.errors import NothingTrainsIt

Part = tuple[SubBlock, Alternative, str | None]
"""A sub-block, what it becomes, and the piece that holds its weights (None: it has none)."""


@dataclass(frozen=True)
class Replacement:
    """One entry of the score table: `table` "pairs" holds names such as `gqa1/linear`."""

    layer: int
    table: str
    name: str
    parts: tuple[Part, ...]

    @contextmanager
    def applied(self, model: PreTrainedModel, library: Library) -> Iterator[None]:
        """The model with this replacement in it, for forward passes without a cache."""
        with ExitStack() as stack:
            for sub_block, alternative, piece in self.parts:
                module = self._module(model, library, sub_block, alternative, piece)
                stack.enter_context(replace(model, self.layer, sub_block, module))
            yield

    def _module(
        self,
        model: PreTrainedModel,
        library: Library,
        sub_block: SubBlock,
        alternative: Alternative,
        piece: str | None,
    ) -> nn.Module:
        module = build_alternative(model, self.layer, sub_block, alternative)
        if piece is not None:
            load_piece(module, library.load(piece), piece, self.layer, sub_block, alternative)
        return module.requires_grad_(False)


def replacements(
    score: nodes.Score, space: nodes.Space, unit: str, jobs: Sequence[BldJob]
) -> list[Replacement]:
    """Everything to score, layers ascending; without the parent's own, whose score is 0.

    Raises DiagnosticError (NothingTrainsIt).
    """
    pieces: dict[tuple[int, AttentionAlternative | None, FfnAlternative | None], str] = {}
    for job in jobs:
        pieces.setdefault((job.layer, job.attention, job.ffn), job.id)
    found: list[Replacement] = []
    for layer, choice in enumerate(space.layers):
        if unit == "block":
            for a in dict.fromkeys(choice.attention):
                for f in dict.fromkeys(choice.ffn):
                    parts = _pair(score, layer, a, f, pieces.get((layer, a, f)), pieces)
                    found.append(Replacement(layer, "pairs", f"{name_of(a)}/{name_of(f)}", parts))
        else:
            for a in dict.fromkeys(choice.attention):
                part = _part(score, layer, "attention", a, pieces.get((layer, a, None)))
                found.append(Replacement(layer, "attention", name_of(a), part))
            for f in dict.fromkeys(choice.ffn):
                part = _part(score, layer, "ffn", f, pieces.get((layer, None, f)))
                found.append(Replacement(layer, "ffn", name_of(f), part))
    return [replacement for replacement in found if replacement.parts]


def _pair(
    score: nodes.Score,
    layer: int,
    attention: AttentionAlternative,
    ffn: FfnAlternative,
    block: str | None,
    pieces: dict[tuple[int, AttentionAlternative | None, FfnAlternative | None], str],
) -> tuple[Part, ...]:
    """Both halves, from one coupled piece where there is one, else from two sub-block pieces."""
    attention_piece = block or pieces.get((layer, attention, None))
    ffn_piece = block or pieces.get((layer, None, ffn))
    return _part(score, layer, "attention", attention, attention_piece) + _part(
        score, layer, "ffn", ffn, ffn_piece
    )


def _part(
    score: nodes.Score, layer: int, sub_block: SubBlock, alternative: Alternative, piece: str | None
) -> tuple[Part, ...]:
    if isinstance(alternative, ParentAttention | ParentFfn):
        return ()
    if alternative.kind == "noop":
        return ((sub_block, alternative, None),)
    if piece is None:
        what = f"{sub_block} `{name_of(alternative)}`"
        raise DiagnosticError(
            NothingTrainsIt(span_of(score.where), score=score.name, bld=score.bld, what=what, layer=layer)
        )
    return ((sub_block, alternative, piece),)
