"""One walk up the layers that heals a child, with one layer of it in memory at a time.

The child's own copy of a layer exists only while the streams pass it; what stays of it are the healed weights, a file a
layer in `work`. A killed walk starts again at the bottom and takes them from there: what is left of the work done is
forward passes.

Shapes: N blocks, S context, B sequences, H hidden, P positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.files import write_bytes
from puzzledsl.healing.fit import Streams, heal_layer
from puzzledsl.healing.layer import ChildLayer, is_intact
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.modeling.assemble import Pieces
from puzzledsl.modeling.layerwise import LayerRunner, LayerTrace
from puzzledsl.parents.access import family_of, sub_block_name
from puzzledsl.parents.tensors import LazyTensor, open_file
from puzzledsl.progress import Progress
from puzzledsl.seals import is_sealed_beside, seal_beside

GROUP_TOKENS = 2048
"""Tokens that go through a layer together."""
KL_POSITIONS = 512
"""Positions whose logits exist at one time."""


@dataclass(frozen=True, slots=True)
class Healed:
    """The healed weights by transformers' names, and KL(parent || child) on held-out tokens, nats, without and with them."""

    weights: dict[str, LazyTensor]
    kl_before: float
    kl_after: float

    @property
    def improved(self) -> bool:
        """False where the child is better left as it is."""
        return self.kl_after < self.kl_before


@dataclass
class _HeldOut(Streams):
    """`child` is the healed child's stream; this also has the stream of the child as it was."""

    unhealed: Tensor = field(default_factory=lambda: torch.empty(0))


@torch.no_grad()
def heal(
    model: PreTrainedModel,
    layers: Sequence[LayerDefinition],
    pieces: Pieces,
    calibration_NS: Tensor,
    held_out_NS: Tensor,
    work: Path,
    progress: Progress,
) -> Healed:
    """Heal the child that `layers` and `pieces` make of the parent `model`. Not healed: the parent's own sub-blocks.

    Holds the hidden states of all these tokens in memory, the parent's and the child's, and what one sub-block's last map
    reads. Raises DiagnosticError where a piece is damaged or does not fit.
    """
    walk = _Walk(LayerRunner(model), model, pieces, work)
    walk.enter(calibration_NS, held_out_NS)
    last = max((i for i, layer in enumerate(layers) if not is_intact(layer)), default=-1)
    progress.start("heal", len(layers))
    weights: dict[str, LazyTensor] = {}
    for layer_idx, layer in enumerate(layers):
        if layer_idx > last:
            walk.calibration.clear()  # nothing above needs them
        if is_intact(layer):
            walk.pass_by(layer_idx)
        else:
            weights |= walk.heal(layer_idx, layer)
        progress.advance()
    return Healed(weights, *walk.divergences())


class _Walk:
    """Where the streams are, and how they get past a layer. Streams that are still equal are one tensor."""

    def __init__(self, runner: LayerRunner, model: PreTrainedModel, pieces: Pieces, work: Path) -> None:
        self._runner, self._model, self._pieces, self._work = runner, model, pieces, work
        self.calibration: list[Streams] = []
        self.held_out: list[_HeldOut] = []

    def enter(self, calibration_NS: Tensor, held_out_NS: Tensor) -> None:
        """Embed the tokens."""
        self.calibration = [Streams(hidden, hidden) for hidden in self._embedded(calibration_NS)]
        self.held_out = [_HeldOut(hidden, hidden, hidden) for hidden in self._embedded(held_out_NS)]

    def _embedded(self, tokens_NS: Tensor) -> list[Tensor]:
        groups = torch.split(tokens_NS, max(1, GROUP_TOKENS // tokens_NS.shape[1]))
        return [self._runner.embed(tokens.to(self._runner.device)) for tokens in groups]

    def pass_by(self, layer_idx: int) -> None:
        """An intact layer: the parent's, for everyone."""
        for stream in [*self.calibration, *self.held_out]:
            entering = {id(h): h for h in vars(stream).values()}
            leaving = {key: self._runner.run_layer(layer_idx, h) for key, h in entering.items()}
            for name, hidden in list(vars(stream).items()):
                setattr(stream, name, leaving[id(hidden)])

    def heal(self, layer_idx: int, layer: LayerDefinition) -> dict[str, LazyTensor]:
        """A changed layer. Its healed weights."""
        child = ChildLayer(self._model, layer_idx, layer, self._pieces)
        path = self._work / f"layer-{layer_idx}.safetensors"
        held_out = [self._runner.trace_layer(layer_idx, held.parent) for held in self.held_out]
        for held, trace in zip(self.held_out, held_out, strict=True):
            held.unhealed = child.run(held.unhealed, trace.attention_kwargs)
        traces = [self._runner.trace_layer(layer_idx, stream.parent) for stream in self.calibration]
        if is_sealed_beside(path):
            self._take(child, path, layer_idx)
            _move(child, self.calibration, traces)
        else:
            heal_layer(child, self.calibration, traces)
            write_bytes(path, to_safetensors(self._named(child, layer_idx)))
            seal_beside(path)
        _move(child, self.held_out, held_out)
        return open_file(path)

    def _named(self, child: ChildLayer, layer_idx: int) -> dict[str, Tensor]:
        """The last maps' weights by their names in the checkpoint."""
        prefix = f"{family_of(self._model).layers}.{layer_idx}"
        return {
            f"{prefix}.{sub_block_name(s.sub_block)}.{s.name}.weight": s.last.weight
            for s in child.sub_blocks
            if s.last is not None
        }

    def _take(self, child: ChildLayer, path: Path, layer_idx: int) -> None:
        stored = open_file(path)
        for name, weight in self._named(child, layer_idx).items():
            weight.copy_(stored[name].read())

    def divergences(self) -> tuple[float, float]:
        """KL(parent || child) of the child as it was and of the healed one, means over held-out positions."""
        before = sum(self._kl(held.parent, held.unhealed) for held in self.held_out)
        after = sum(self._kl(held.parent, held.child) for held in self.held_out)
        positions = sum(held.parent.shape[:2].numel() for held in self.held_out)
        return before / positions, after / positions

    def _kl(self, parent_BSH: Tensor, child_BSH: Tensor) -> float:
        total = 0.0
        for parent, child in zip(
            torch.split(parent_BSH.flatten(0, 1), KL_POSITIONS),
            torch.split(child_BSH.flatten(0, 1), KL_POSITIONS),
            strict=True,
        ):
            p_PV, q_PV = self._log_probs(parent), self._log_probs(child)
            total += float((p_PV.exp() * (p_PV - q_PV)).sum(dtype=torch.float64))
        return total

    def _log_probs(self, hidden_PH: Tensor) -> Tensor:
        return self._runner.head(self._runner.final_norm(hidden_PH)).float().log_softmax(-1)


def _move(child: ChildLayer, streams: Sequence[Streams], traces: Sequence[LayerTrace]) -> None:
    for stream, trace in zip(streams, traces, strict=True):
        stream.child, stream.parent = child.run(stream.child, trace.attention_kwargs), trace.output
