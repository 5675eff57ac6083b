"""Work order for BLD: the jobs, tokens and settings that a process on any machine needs to train pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from puzzledsl.data.budget import Budget
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.ir.tables import BldJob

CALIBRATION_BATCH_TOKENS, CALIBRATION_BATCHES = 2048, 8
"""Most tokens in a calibration batch, and least number of batches (if there are that many blocks). Several batches are needed
because the last ones judge what is fitted to the others."""


@dataclass(frozen=True)
class Order:
    """An order for the pieces of `jobs`. `tokens` [N, S] are calibration, training and held-out blocks, in this order.

    `work`: directory for the state that an interrupted run resumes from. `made_from`: digests of the parent and the text, which
    are stored with each piece.
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
        """The highest layer with a job."""
        return max(job.layer for job in self.jobs)

    def jobs_of(self, layer_idx: int) -> list[BldJob]:
        """Return the jobs of one layer."""
        return [job for job in self.jobs if job.layer == layer_idx]

    def calibration_batches(self) -> tuple[Tensor, ...]:
        """Split the calibration blocks into batches [B, S], which run through a layer together."""
        blocks = self.budget.calibration
        size = max(1, min(CALIBRATION_BATCH_TOKENS // self.budget.context, blocks // CALIBRATION_BATCHES))
        return torch.split(self.tokens[: self.budget.calibration], size)

    def training_batches(self) -> tuple[Tensor, ...]:
        """Split the training blocks into batches [B, S], one for each training step; empty where nothing is trained."""
        start, count = self.budget.calibration, self.budget.training
        return torch.split(self.tokens[start : start + count], self.budget.batch) if count else ()

    def held_out_batches(self) -> tuple[Tensor, ...]:
        """Split the held-out blocks, on which losses are measured, into batches [B, S]."""
        return torch.split(self.tokens[self.budget.calibration + self.budget.training :], self.budget.batch)
