"""Replacements of a score: every alternative (or pair) of every layer with its pieces, and dropped runs of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, EndName, SubBlock
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import DiagnosticError, NoPieceForAlternative
from puzzledsl.child.assemble import Chosen
from puzzledsl.costs.flops import met_weights
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import runs_to_drop
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.families.access import layers
from puzzledsl.models.replace import with_modules
from puzzledsl.pieces.store.library import Library

Part = tuple[SubBlock, Alternative, str | None]
"""(sub-block, its alternative, id of the piece with its weights, or None without weights of its own)."""
Pair = tuple[AttentionAlternative | None, FfnAlternative | None]
Pieces = dict[tuple[int, AttentionAlternative | None, FfnAlternative | None], str]


@dataclass(frozen=True)
class Replacement:
    """One entry of the score table. `table`: "attention", "ffn" or "pairs"; in "pairs", names are such as `gqa1/linear`."""

    layer: int
    table: str
    name: str
    parts: tuple[Part, ...]

    def layer_of(self, model: PreTrainedModel, library: Library) -> nn.Module:
        """Return a copy of the model's layer with this replacement; for forward passes without a KV cache."""
        layer = layers(model)[self.layer]
        chosen = (Chosen(self.layer, *part) for part in self.parts)
        modules = {each.sub_block: each.module(model, layer, library.load)[0] for each in chosen}
        return with_modules(layer, modules)


@dataclass(frozen=True)
class Run:
    """A run of `length` consecutive layers, from `layer` on, that are dropped together."""

    layer: int
    length: int
    table: str = "run"

    @property
    def name(self) -> str:
        """The length, as the name of the cached entry."""
        return str(self.length)

    @property
    def end(self) -> int:
        """The layer after the last dropped one."""
        return self.layer + self.length


HEALING = 4.0
"""Passes of a token through a layer that is healed: parent, child, Gram matrices, and the fitted maps."""


@dataclass(frozen=True)
class ScoringWork:
    """Weights that a token meets, by layer and in the head: the measure of work of what is scored.

    `healed`: tokens that a layer is healed on, for each scored token. `behind`: work that follows the replacements.
    """

    layers: tuple[int, ...]
    head: int
    healed: float = 0.0
    behind: float = 0.0

    @classmethod
    def of(cls, shape: nodes.Shape, healed: float = 0.0, wholes: int = 0) -> ScoringWork:
        """Count the parent's weights; `wholes`: whole models that are measured behind the replacements."""
        whole = cls(*met_weights(shape))
        return cls(whole.layers, whole.head, healed, wholes * whole.whole)

    @property
    def whole(self) -> float:
        """The work of a whole model."""
        return sum(self.layers) + self.head

    def above(self, scored: Replacement | Run) -> float:
        """Return the work of a replacement or run: the layers from its own on, those that are healed, and the head."""
        end = scored.end if isinstance(scored, Run) else scored.layer
        return sum(self.layers[end:]) + self.head + HEALING * self.healed * sum(self.layers[end : end + 2])


def ends_to_score(space: nodes.Space) -> list[tuple[EndName, PrecisionName]]:
    """Return the ends of the model that have a storage type of their own in some child: embedding before head."""
    known = () if space.ends is None else space.ends
    return [(end.sub_block, end.dtype) for _, ends in known for end in ends if end.dtype is not None]


def runs_to_score(score: nodes.Score, space: nodes.Space, shape: nodes.Shape) -> list[Run]:
    """Return every run that a score asks for, by ascending first layer."""
    lengths = score.method.runs if isinstance(score.method, nodes.ReplaceOne) else None
    return [Run(first, length) for first, length in runs_to_drop(space.layers, shape, lengths)]


def replacements(
    score: nodes.Score, space: nodes.Space, unit: str, jobs: Sequence[BldJob]
) -> list[Replacement]:
    """Return all replacements to score, by ascending layer, except the parent's own sub-blocks, whose score is 0.

    Raises DiagnosticError (NoPieceForAlternative) for an alternative without a piece.
    """
    pieces: Pieces = {}
    for job in jobs:
        pieces.setdefault((job.layer, job.attention, job.ffn), job.id)
    found: list[Replacement] = []
    for layer, choice in enumerate(space.layers):
        attention, ffn = dict.fromkeys(choice.attention), dict.fromkeys(choice.ffn)
        chosen: list[Pair] = [*((a, None) for a in attention), *((None, f) for f in ffn)]
        if unit == "block":
            chosen = [(a, f) for a in attention for f in ffn]
        for a, f in chosen:
            if parts := tuple(_parts(score, layer, pieces, a, f)):
                table = "pairs" if unit == "block" else "attention" if f is None else "ffn"
                name = "/".join(each.name for each in (a, f) if each is not None)
                found.append(Replacement(layer, table, name, parts))
    return found


def _parts(
    score: nodes.Score,
    layer: int,
    pieces: Pieces,
    attention: AttentionAlternative | None,
    ffn: FfnAlternative | None,
) -> Iterator[Part]:
    """Yield what is not the parent's, from a coupled piece if there is one, else from a piece for each."""
    made = None if attention is None else attention.of_piece
    places: list[tuple[SubBlock, Alternative | None, str | None]] = [
        ("attention", attention, pieces.get((layer, made, None))),
        ("ffn", ffn, pieces.get((layer, None, ffn))),
    ]
    for sub_block, alternative, alone in places:
        if alternative is None or alternative.is_parent:
            continue
        piece = pieces.get((layer, made, ffn)) or alone
        if alternative.removes or alternative.keeps_weights:
            piece = None
        elif piece is None:
            what, span = f"{sub_block} `{alternative.name}`", span_of(score.where)
            raise DiagnosticError(
                NoPieceForAlternative(span, score=score.name, bld=score.bld, what=what, layer=layer)
            )
        yield sub_block, alternative, piece
