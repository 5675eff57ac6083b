"""The modules of a piece in training, with their inputs and targets.

Norms stay the parent's and are not trained (the weights after a norm absorb its scale). So all pieces of a sub-block share one
normed input, and no gradient flows to it.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.ir.nodes import Initialisers, Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.build import build_alternative, initialise
from puzzledsl.models.families import access
from puzzledsl.models.kernels.products import fast_products
from puzzledsl.models.layerwise import LayerTrace
from puzzledsl.models.least_squares.layer_statistics import LayerStatistics

TracedBatch = tuple[Tensor, LayerTrace]
"""Hidden states [B, S, H] that enter a layer, and the trace of the parent's layer on them."""


@dataclass
class Student:
    """Modules of a job. `trained` holds those that are not the parent's, under the names that the piece's file uses."""

    job: BldJob
    attention: nn.Module | None
    ffn: nn.Module | None
    ffn_norm: Callable[[Tensor], Tensor]
    trained: nn.Module

    @classmethod
    def build(
        cls,
        job: BldJob,
        model: PreTrainedModel,
        statistics: LayerStatistics,
        init: Initialisers,
        shape: Shape,
    ) -> Student:
        """Build a job's student and initialise its weights, in float32.

        Where one half of a coupled piece is `parent`, it is the parent's own module, neither trained nor stored.
        Raises DiagnosticError if an alternative cannot be built or initialised.
        """
        layer = access.layers(model)[job.layer]

        def initialised(made: nn.Module, sub_block: SubBlock, alternative: Alternative) -> None:
            made.load_state_dict(initialise(layer, alternative, statistics, init, shape))

        return _student(job, model, initialised)

    @classmethod
    def restore(cls, job: BldJob, model: PreTrainedModel, weights: Mapping[str, Tensor]) -> Student:
        """Build a job's student with the given weights, named as by `Student.weights`."""
        student = _student(job, model, lambda made, sub_block, alternative: None)
        student.trained.load_state_dict(dict(weights))
        return student

    def forward(self, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        """Return the piece's output, which is added to the residual stream, [B, S, H]. Uses `models.kernels.products`.

        For a coupled block it is the sum of its attention's and its FFN's outputs; the FFN reads the stream after the new
        attention. With a bfloat16 parent, the float32 weights are multiplied in bfloat16 (autocast).
        """
        with fast_products(), _as_the_parent_multiplies(hidden_BSH):
            return self._forward(hidden_BSH, trace)

    def _forward(self, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        if self.attention is None:
            assert self.ffn is not None
            return cast(Tensor, self.ffn(trace.ffn_input))
        kwargs: dict[str, Any] = trace.attention_kwargs
        attended, _ = self.attention(hidden_states=trace.attention_input, **kwargs)
        if self.ffn is None:
            return cast(Tensor, attended)
        return cast(Tensor, attended + self.ffn(self.ffn_norm(hidden_BSH + attended)))

    def target(self, trace: LayerTrace) -> Tensor:
        """Return the output of the parent's sub-block (or block), [B, S, H]."""
        match self.job.sub_block:
            case "attention":
                return trace.attention_output
            case "ffn":
                return trace.ffn_output
            case "block":
                return trace.attention_output + trace.ffn_output

    @property
    def needs_training(self) -> bool:
        """False for a linear sub-block initialised by least squares: it is the optimum already, so BLD cannot improve it."""
        alternative = self.job.attention or self.job.ffn
        assert alternative is not None
        return self.job.sub_block == "block" or not alternative.is_solved(self.job.init)

    def weights(self) -> dict[str, Tensor]:
        """Return a float32 copy of the trained weights, by the names that the piece's file uses."""
        return {name: tensor.detach().clone() for name, tensor in self.trained.state_dict().items()}


def _as_the_parent_multiplies(hidden_BSH: Tensor) -> AbstractContextManager[object]:
    if hidden_BSH.dtype != torch.bfloat16:
        return nullcontext()
    return torch.autocast(hidden_BSH.device.type, torch.bfloat16)


_SetWeights = Callable[[nn.Module, SubBlock, Alternative], None]


def _student(job: BldJob, model: PreTrainedModel, set_weights: _SetWeights) -> Student:
    layer = access.layers(model)[job.layer]
    trained: dict[str, nn.Module] = {}

    def module(sub_block: SubBlock, alternative: Alternative | None) -> nn.Module | None:
        if alternative is None:
            return None
        if alternative.kind == "parent":
            return access.sub_block_of(layer, sub_block)
        made = build_alternative(model, job.layer, alternative, dtype=torch.float32)
        set_weights(made, sub_block, alternative)
        trained[access.sub_block_name(sub_block)] = made.requires_grad_(True)
        return made

    attention, ffn = module("attention", job.attention), module("ffn", job.ffn)
    held = nn.ModuleDict(trained) if job.sub_block == "block" else next(iter(trained.values()))
    return Student(job, attention, ffn, access.norm_of(layer, "ffn"), held)
