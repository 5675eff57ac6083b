"""The modules of a piece in training, with their inputs and targets.

Norms stay the parent's and are not trained (the weights after a norm absorb its scale). So all pieces of a sub-block share one
normed input, and no gradient flows to it. In a family with norms behind its sub-blocks, losses compare what comes out of these.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import PREFIXES, Alternative, SubBlock
from puzzledsl.alternatives.precision import is_quantised
from puzzledsl.ir.nodes import Initialisers, Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.alternatives.realisation import build_alternative, initialise
from puzzledsl.models.families import access
from puzzledsl.models.families.build import with_modules
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.kernels.products import fast_products, repeatable
from puzzledsl.models.layerwise import observed, trace_of
from puzzledsl.models.least_squares.grams import LayerStatistics, LayerTrace


@dataclass(eq=False)
class Student:
    """Modules of a job. `trained` holds those that are not the parent's, under the names that the piece's file uses."""

    job: BldJob
    layer: nn.Module
    """The parent's layer with the student's modules."""
    trained: nn.Module
    trained_norm: nn.Module | None
    """The parent's norm behind the sub-block that is trained; None without one, and for a coupled piece."""

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
            load_weights_into(made, initialise(layer, alternative, statistics, init, shape))

        return _student(job, model, initialised)

    @classmethod
    def restore(cls, job: BldJob, model: PreTrainedModel, weights: Mapping[str, Tensor]) -> Student:
        """Build a job's student with the given weights, named as by `Student.weights`."""
        student = _student(job, model, lambda made, sub_block, alternative: None)
        load_weights_into(student.trained, weights)
        for sub_block, alternative in alternatives_of(job).items():
            if alternative.dtype is not None:
                access.sub_block_of(student.layer, sub_block).requires_grad_(False)
        return student

    def forward(self, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        """Return what the piece adds to the residual stream, [B, S, H], with repeatable products.

        For a coupled block it is the sum of its attention's and its FFN's; the FFN reads the stream after the new
        attention. With a bfloat16 parent, the float32 weights are multiplied in bfloat16 (autocast).
        """
        device, is_half = hidden_BSH.device, hidden_BSH.dtype == torch.bfloat16
        half = torch.autocast(device.type, torch.bfloat16) if is_half else nullcontext()
        with repeatable(device), fast_products(device), half:
            return self._forward(hidden_BSH, trace)

    def _forward(self, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        match self.job.sub_block:
            case "attention":
                output = self.trained(hidden_states=trace.attention_input, **trace.attention_kwargs)
            case "ffn":
                output = self.trained(trace.ffn_input)
            case "block":
                layer, notes = observed(self.layer)
                output = layer(hidden_BSH, **trace.layer_kwargs)
                own = trace_of(notes, hidden_BSH, output, trace.layer_kwargs)
                return own.attention_added + own.ffn_added
        output = output[0] if isinstance(output, tuple) else output
        return cast(Tensor, output if self.trained_norm is None else self.trained_norm(output))

    def target(self, trace: LayerTrace) -> Tensor:
        """Return what the parent's sub-block (or block) adds to the residual stream, [B, S, H]."""
        match self.job.sub_block:
            case "attention":
                return trace.attention_added
            case "ffn":
                return trace.ffn_added
            case "block":
                return trace.attention_added + trace.ffn_added

    @property
    def needs_training(self) -> bool:
        """True if BLD can improve the piece: its weights are not all frozen by quantisation, nor optimal already.

        A linear sub-block initialised by least squares is optimal, unless a norm of the parent's is behind it: then it is the
        optimum in front of the norm. A coupled piece never counts as optimal.
        """
        alternative = self.job.attention or self.job.ffn
        assert alternative is not None
        solved = alternative.solved_by == self.job.init and self.trained_norm is None
        frozen = not any(weight.requires_grad for weight in self.trained.parameters())
        return not frozen and (self.job.sub_block == "block" or not solved)

    @property
    def has_storage_type(self) -> bool:
        """True if one of the piece's alternatives has a storage type."""
        return any(alternative.dtype is not None for alternative in alternatives_of(self.job).values())

    def weights(self) -> dict[str, Tensor]:
        """Return a float32 copy of the trained weights in the host's memory, by the names that the piece's file uses."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in weights_of(self.trained).items()}

    def quantised_names(self) -> set[str]:
        """Return the names of the weights that lie on the grid of a storage type."""
        found: set[str] = set()
        for sub_block, alternative in alternatives_of(self.job).items():
            start = f"{PREFIXES[sub_block]}." if self.job.sub_block == "block" else ""
            if alternative.dtype is not None:
                own = weights_of(access.sub_block_of(self.layer, sub_block))
                found |= {start + name for name, w in own.items() if is_quantised(name, tuple(w.shape))}
        return found


_SetWeights = Callable[[nn.Module, SubBlock, Alternative], None]


def _student(job: BldJob, model: PreTrainedModel, set_weights: _SetWeights) -> Student:
    layer = access.layers(model)[job.layer]
    made: dict[SubBlock, nn.Module] = {}
    for sub_block, alternative in alternatives_of(job).items():
        if not alternative.is_parent:
            module = build_alternative(model, job.layer, alternative, dtype=torch.float32)
            set_weights(module, sub_block, alternative)
            made[sub_block] = module.requires_grad_(True)
    changed = with_modules(layer, made)
    if job.sub_block == "block":
        held = nn.ModuleDict({PREFIXES[sub_block]: module for sub_block, module in made.items()})
        return Student(job, changed, held, None)
    return Student(job, changed, made[job.sub_block], access.norm_behind(layer, job.sub_block))


def alternatives_of(job: BldJob) -> dict[SubBlock, Alternative]:
    """Return the alternatives of a job, by sub-block."""
    pairs: tuple[tuple[SubBlock, Alternative | None], ...] = (("attention", job.attention), ("ffn", job.ffn))
    return {sub_block: alternative for sub_block, alternative in pairs if alternative is not None}
