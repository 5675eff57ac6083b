"""Replacements of a score: every alternative (or pair) of every layer with its pieces, and dropped runs of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.diagnostics import Args, DiagnosticError, NoPieceForAlternative
from puzzledsl.child.assemble import Chosen, chosen_in
from puzzledsl.child.definition import layer_of_pieces, pieces_of
from puzzledsl.costs.flops import met_weights
from puzzledsl.families.block_configs import Layer
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.facts import runs_to_drop
from puzzledsl.ir.tables import BldJob, LayerDefinition
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.build import with_modules
from puzzledsl.pieces.store.library import Library


@dataclass(frozen=True)
class Replacement:
    """One entry of the score table. `table`: "attention", "ffn" or "pairs"; in "pairs", names are such as `gqa1/linear`."""

    layer: int
    table: str
    name: str
    definition: LayerDefinition

    @property
    def parts(self) -> list[Chosen]:
        """The sub-blocks that are not the parent's."""
        return [part for part in chosen_in(self.layer, self.definition) if not part.alternative.is_parent]

    def layer_of(self, model: PreTrainedModel, library: Library) -> nn.Module:
        """Return a copy of the model's layer with this replacement; for forward passes without a KV cache."""
        layer = layers(model)[self.layer]
        modules = {each.sub_block: each.module(model, layer, library.load)[0] for each in self.parts}
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
    pieces, found = pieces_of(jobs), list[Replacement]()
    parent = ParentAttention(), ParentFfn()
    for layer, choice in enumerate(space.layers):
        attention, ffn = dict.fromkeys(choice.attention), dict.fromkeys(choice.ffn)
        chosen: list[tuple[str, str, Layer]] = [("attention", a.name, (a, parent[1])) for a in attention]
        chosen += [("ffn", f.name, (parent[0], f)) for f in ffn]
        if unit == "block":
            chosen = [("pairs", f"{a.name}/{f.name}", (a, f)) for a in attention for f in ffn]
        for table, name, pair in chosen:
            if not all(alternative.is_parent for alternative in pair):
                definition, lacking = layer_of_pieces(layer, *pair, pieces)
                if lacking:
                    said: Args = {"score": score.name, "bld": score.bld, "what": lacking[0], "layer": layer}
                    raise DiagnosticError(NoPieceForAlternative(span_of(score.where), **said))
                found.append(Replacement(layer, table, name, definition))
    return found
