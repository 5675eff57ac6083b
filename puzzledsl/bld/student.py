"""One piece in training: the modules of a job, what they are given and what they should give.

Norms stay the parent's and are not trained (their scale is absorbed by the weights behind them), so every piece of a
layer reads one normed input, and no gradient flows to it.

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

from puzzledsl.ir.alternatives import Alternative, SubBlock
from puzzledsl.ir.nodes import Initialisers, Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.modeling.build import build_alternative
from puzzledsl.modeling.layerwise import LayerTrace
from puzzledsl.modeling.products import fast_products
from puzzledsl.parents import access
from puzzledsl.surgery.initialise import initialise
from puzzledsl.surgery.statistics import LayerStatistics


@dataclass
class Student:
    """A job's modules. `trained` holds those with weights of their own, under the names a piece stores."""

    job: BldJob
    attention: nn.Module | None
    ffn: nn.Module | None
    ffn_norm: Callable[[Tensor], Tensor]
    trained: nn.Module

    def forward(self, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        """What the piece adds to the residual stream, [B, S, H]. Products are fast ones (`modeling.products`).

        A block adds what its attention and its FFN add: the FFN reads the stream that the new attention changed. Of a parent in
        bfloat16 the float32 weights are multiplied in bfloat16, too.
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
        """What the parent's own sub-block (or block) adds, [B, S, H]."""
        match self.job.sub_block:
            case "attention":
                return trace.attention_output
            case "ffn":
                return trace.ffn_output
            case "block":
                return trace.attention_output + trace.ffn_output

    @property
    def needs_training(self) -> bool:
        """False for a linear sub-block that starts as the exact least-squares optimum: BLD cannot better it."""
        alternative = self.job.attention or self.job.ffn
        solved = alternative is not None and alternative.kind == "linear" and self.job.init == "least_squares"
        return self.job.sub_block == "block" or not solved

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trained weights, float32, by the names a piece stores."""
        return {name: tensor.detach().clone() for name, tensor in self.trained.state_dict().items()}


def _as_the_parent_multiplies(hidden_BSH: Tensor) -> AbstractContextManager[object]:
    if hidden_BSH.dtype != torch.bfloat16:
        return nullcontext()
    return torch.autocast(hidden_BSH.device.type, torch.bfloat16)


def enrol(
    job: BldJob, model: PreTrainedModel, statistics: LayerStatistics, init: Initialisers, shape: Shape
) -> Student:
    """A job's student, initialised, with float32 weights. Raises DiagnosticError for what cannot be built or initialised.

    The parent's half of a coupled piece is the parent's own module: not trained, not stored.
    """
    layer = access.layers(model)[job.layer]

    def weigh(made: nn.Module, sub_block: SubBlock, alternative: Alternative) -> None:
        made.load_state_dict(initialise(layer, sub_block, alternative, statistics, init, shape))

    return _student(job, model, weigh)


def revive(job: BldJob, model: PreTrainedModel, weights: Mapping[str, Tensor]) -> Student:
    """A job's student with these weights, by the names that `Student.weights` gives them."""
    student = _student(job, model, lambda made, sub_block, alternative: None)
    student.trained.load_state_dict(dict(weights))
    return student


Weigh = Callable[[nn.Module, SubBlock, Alternative], None]


def _student(job: BldJob, model: PreTrainedModel, weigh: Weigh) -> Student:
    layer = access.layers(model)[job.layer]
    trained: dict[str, nn.Module] = {}

    def module(sub_block: SubBlock, alternative: Alternative | None) -> nn.Module | None:
        if alternative is None:
            return None
        if alternative.kind == "parent":
            return access.sub_block_of(layer, sub_block)
        made = build_alternative(model, job.layer, sub_block, alternative, dtype=torch.float32)
        weigh(made, sub_block, alternative)
        trained[access.sub_block_name(sub_block)] = made.requires_grad_(True)
        return made

    attention, ffn = module("attention", job.attention), module("ffn", job.ffn)
    held = nn.ModuleDict(trained) if job.sub_block == "block" else next(iter(trained.values()))
    return Student(job, attention, ffn, access.norm_of(layer, "ffn"), held)
