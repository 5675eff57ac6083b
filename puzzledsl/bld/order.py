"""What is to be made: all that a process, here or on another machine, needs to know to make pieces of some layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.bld.training import Outcome
from puzzledsl.data.budget import Budget
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.library.library import Library

CALIBRATION_BATCH_TOKENS, CALIBRATION_BATCHES = 2048, 8
"""Tokens that go through a layer together while statistics are collected, at most; and as many batches, at least, where there
are so many blocks, so that some can judge what is fitted to others."""


@dataclass(frozen=True)
class Order:
    """The pieces of `jobs`, from `tokens`: calibration, training and held-out blocks, in this order, [N, S].

    `work` is for what an interrupted run needs to go on; `made_from` are the digests a piece remembers.
    """

    name: str
    parent_dir: Path
    jobs: Sequence[BldJob]
    budget: Budget
    init: Initialisers
    tokens: Tensor
    library_root: Path
    work: Path
    made_from: dict[str, str] = field(default_factory=dict)

    @property
    def last_layer(self) -> int:
        """The highest layer that has a piece to make."""
        return max(job.layer for job in self.jobs)

    def calibration_batches(self) -> tuple[Tensor, ...]:
        """Blocks that go through a layer together while statistics are collected."""
        blocks = self.budget.calibration
        size = max(1, min(CALIBRATION_BATCH_TOKENS // self.budget.context, blocks // CALIBRATION_BATCHES))
        return torch.split(self.tokens[: self.budget.calibration], size)

    def training_batches(self) -> tuple[Tensor, ...]:
        """One a step."""
        start, count = self.budget.calibration, self.budget.training
        return torch.split(self.tokens[start : start + count], self.budget.batch) if count else ()

    def held_out_batches(self) -> tuple[Tensor, ...]:
        """Blocks that losses are measured on."""
        return torch.split(self.tokens[self.budget.calibration + self.budget.training :], self.budget.batch)


def write_piece(library: Library, order: Order, outcome: Outcome, dtype: torch.dtype) -> Piece:
    """The file of a finished piece, with weights in `dtype`, the parent's. Its index line is not written yet."""
    tensors = {name: tensor.to(dtype) for name, tensor in outcome.weights.items()}
    trained = outcome.steps * order.budget.batch * order.budget.context
    job = outcome.student.job
    losses = outcome.loss_initial, outcome.loss_final
    return library.write(job, tensors, *losses, trained, order.made_from)
