"""The training loop of global knowledge distillation: resumable to the bit, and never worse than its start.

Shape legend: G blocks of one optimiser step, B of one forward, T tokens a block, N = B * T positions, H hidden, V vocabulary.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Schedule, Uptrain
from puzzledsl.models.schedule import learning_rate
from puzzledsl.uptrain.average import Average
from puzzledsl.uptrain.errors import LossDiverged
from puzzledsl.uptrain.model import (
    Hidden,
    Losses,
    Student,
    Target,
    Teacher,
    in_bf16,
    recompute_layers,
)
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks, shares
from puzzledsl.uptrain.shard import embedding_of, gathered, reshard, shard
from puzzledsl.uptrain.state import (
    TrainingProgress,
    TrainingState,
    load_state,
    load_weights,
    save_state,
    save_weights,
)
from puzzledsl.uptrain.store import store_at

BETAS, EPSILON, MAX_GRAD_NORM = (0.9, 0.95), 1e-8, 1.0
MICRO_TOKENS = 2048  # positions of one forward and backward pass, where the program does not say
EVALUATIONS, EVALUATION_STEPS = (
    5,
    4,
)  # held-out evaluations after the one at the start, at least so many steps apart
RATE_PER_NAT = 5e-4
"""Peak of the learning rate by the child's KL at the start: steps as large as a far child needs drive a near one away."""
CHECKPOINT_S = 30.0  # between checkpoints, or longer where writing them
CHECKPOINT_SHARE = 0.05  # would take more than this share of the time


@dataclass(frozen=True, slots=True)
class Step:
    """Mean losses of one optimiser step, before weighting, and the gradient norm."""

    loss: float
    kld: float
    cosine: float
    lm: float
    grad_norm: float


def schedule_for(declaration: Uptrain, kl: float) -> Schedule:
    """Return the schedule for a child at `kl` nats: a lower peak near the parent, unless the program gives the rate."""
    lr = declaration.lr
    if not declaration.fits_child:
        return lr
    return lr.model_copy(update={"peak": min(lr.peak, RATE_PER_NAT * kl)})


class Trainer:
    """One training run of a child against its parent, with its data and the store of its unfinished state."""

    def __init__(
        self,
        declaration: Uptrain,
        parent: PreTrainedModel,
        child: PreTrainedModel,
        train_NT: Tensor,
        heldout_NT: Tensor,
        work: Path,
        progress: Progress,
        *,
        device: torch.device | None = None,
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        """Prepare a training.

        `train_NT`: every step's blocks in order, [steps * batch, T]. The child is changed in place. With several `ranks` both
        models are sharded: each process holds its part of their weights.
        """
        self.declaration, self.lr, self.ranks = declaration, declaration.lr, ranks
        self.child = child
        self.train_NT, self.heldout_NT = train_NT, heldout_NT
        self.progress = progress
        self.steps = len(train_NT) // declaration.batch
        self.micro = declaration.micro_batch or max(1, MICRO_TOKENS // train_NT.shape[1])
        self.device = device or child.device
        self.bf16 = in_bf16(self.device, declaration.dtype)
        self.teacher, self.student = Teacher(parent), Student(child)
        child.requires_grad_(True)
        if declaration.recompute:
            recompute_layers(child)
        if ranks.world > 1:
            shard(self.teacher, ranks, bf16=self.bf16)
            shard(self.student, ranks, bf16=self.bf16)
        self.optimizer = torch.optim.AdamW(
            child.parameters(), lr=declaration.lr.peak, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True
        )
        self.average = Average(child, declaration.ema) if declaration.ema else None
        self._run = TrainingState(child, self.optimizer, self.average, ranks)
        self._store = store_at(work, ranks)
        self._parent_heldout: list[Tensor] = []

    def run(self) -> TrainingProgress:
        """Train to the end, then put the best evaluated weights (the start's, if nothing was better) into the child."""
        with torch.random.fork_rng():
            torch.manual_seed(self.declaration.seed + self.ranks.rank)
            return self._run_seeded()

    def _run_seeded(self) -> TrainingProgress:
        done = load_state(self._store, self._run) or TrainingProgress()
        self.progress.start(f"uptraining {self.declaration.name}", self.steps)
        if done.step:
            self.progress.log("uptrain_resumed", step=done.step)
            self.progress.advance(done.step)
        last_saved, writing_s = time.monotonic(), 0.0
        self._evaluate_when_due(done)
        self.lr = schedule_for(self.declaration, done.heldout[0])
        while done.step < self.steps:
            began = time.monotonic()
            figures = self.step(done.step)
            done.step += 1
            tokens_per_s = self.declaration.batch * self.train_NT.shape[1] / (time.monotonic() - began)
            self._report(done.step, figures, tokens_per_s)
            self._evaluate_when_due(done)
            due = time.monotonic() - last_saved >= max(CHECKPOINT_S, writing_s / CHECKPOINT_SHARE)
            if self.ranks.broadcast(due):
                began = time.monotonic()
                save_state(self._store, self._run, done)
                last_saved = time.monotonic()
                writing_s = last_saved - began
        load_weights(self._store, self.child)
        return done

    def step(self, step: int) -> Step:
        """One optimiser step over `batch` blocks, a micro-batch at a time, each process its share."""
        declaration, size = self.declaration, self.declaration.batch
        rows_GT = self.train_NT[step * size : (step + 1) * size]
        totals = [0.0] * 4
        for rows_BT, share in shares(rows_GT, self.micro, self.ranks):
            losses = self._backward(rows_BT.to(self.device), share)
            totals = [
                total + share * float(value.detach()) for total, value in zip(totals, losses, strict=True)
            ]
        reshard(self.teacher)
        loss, kld, cosine, lm = self.ranks.sum(totals)
        if not math.isfinite(loss):
            peak = self.lr.peak
            raise DiagnosticError(
                LossDiverged(None, name=declaration.name, loss=loss, step=step + 1, peak=peak)
            )
        norm = gathered(torch.nn.utils.clip_grad_norm_(self.child.parameters(), MAX_GRAD_NORM))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.child, step + 1)
        return Step(loss, kld, cosine, lm, float(norm))

    def _backward(self, ids_BT: Tensor, share: float) -> Losses:
        """Add the gradient of `share` times the mean losses of these blocks; sharding divides a sum by the processes."""
        with self._autocast:
            target = self.teacher(ids_BT, self.declaration.cosine != 0)
            losses = cast(Losses, self.student(ids_BT, target, self.declaration))
        (share * self.ranks.world * losses.total).backward()  # type: ignore[no-untyped-call]
        return losses

    @torch.no_grad()
    def heldout_kl(self) -> float:
        """Mean KL(parent || child) in nats on the held-out blocks."""
        total = 0.0
        with self._autocast:
            for i, (rows_BT, share) in enumerate(shares(self.heldout_NT, self.micro, self.ranks)):
                ids_BT = rows_BT.to(self.device)
                total += share * float(self.student(ids_BT, self._heldout_target(i, ids_BT), None))
        reshard(self.teacher)
        return self.ranks.sum([total])[0]

    def _heldout_target(self, number: int, ids_BT: Tensor) -> Target:
        """Return the parent's hidden states of a held-out micro-batch; they are computed once and kept on the CPU."""
        if number == len(self._parent_heldout):
            target = cast(Target, self.teacher(ids_BT, False))
            self._parent_heldout.append(target.hidden.final.cpu())
            return target
        kept = Hidden(self._parent_heldout[number].to(self.device), [])
        return Target(kept, embedding_of(self.teacher))

    def _evaluate_when_due(self, done: TrainingProgress) -> None:
        count = max(1, min(EVALUATIONS, self.steps // EVALUATION_STEPS))
        due = {round(self.steps * i / count) for i in range(count + 1)}
        if done.step not in due or done.step in done.heldout:
            return
        if self.average is not None:
            self.average.exchange(self.child)
        kl = self.heldout_kl()
        done.heldout[done.step] = kl
        self.progress.log("uptrain_heldout", step=done.step, kl=kl)
        if done.best_step == done.step:
            save_weights(self._store, self.child)
        if self.average is not None:
            self.average.exchange(self.child)

    def _report(self, step: int, figures: Step, tokens_per_s: float) -> None:
        shown = {"loss": figures.loss, "kl": figures.kld, "tokens_per_s": round(tokens_per_s)}
        self.progress.advance(1, **shown)
        self.progress.log(
            "uptrain_step",
            step=step,
            loss=figures.loss,
            kld=figures.kld,
            cosine=figures.cosine,
            lm=figures.lm,
            grad_norm=figures.grad_norm,
            lr=learning_rate(self.lr, step - 1, self.steps),
        )

    @property
    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)
