"""The training loop of global knowledge distillation: resumable to the bit, and never worse than its start.

Shape legend: G blocks of one optimiser step, B of one forward, T tokens a block, N = B * T positions, H hidden, V vocabulary.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import Uptrain
from puzzledsl.progress import Progress
from puzzledsl.uptrain.errors import LossDiverged
from puzzledsl.uptrain.loss import IGNORED, cosine_loss, logit_loss, mean_kl
from puzzledsl.uptrain.model import autocast, hidden_states, output_embedding
from puzzledsl.uptrain.schedule import learning_rate
from puzzledsl.uptrain.state import Standing, load_state, load_weights, save_state, save_weights

BETAS, EPSILON, MAX_GRAD_NORM = (0.9, 0.95), 1e-8, 1.0
MICRO_TOKENS = 2048  # positions of one forward and backward pass
EVALUATIONS = 5  # held-out evaluations after the one at the start
CHECKPOINT_S = 30.0  # between checkpoints, or longer where writing them
CHECKPOINT_SHARE = 0.05  # would take more than this share of the time


@dataclass(frozen=True, slots=True)
class Step:
    """The means of one optimiser step, before weighting."""

    loss: float
    kld: float
    cosine: float
    lm: float
    grad_norm: float


class Trainer:
    """One run: parent, child, data and where it keeps itself between interruptions."""

    def __init__(
        self,
        declaration: Uptrain,
        parent: PreTrainedModel,
        child: PreTrainedModel,
        train_NT: Tensor,
        heldout_NT: Tensor,
        work: Path,
        progress: Progress,
    ) -> None:
        """`train_NT`: every step's blocks in order, [steps * batch, T]. The child is changed in place."""
        self.declaration = declaration
        self.parent, self.child = parent, child
        self.train_NT, self.heldout_NT = train_NT, heldout_NT
        self.work, self.progress = work, progress
        self.steps = len(train_NT) // declaration.batch
        self.device = child.device
        child.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            child.parameters(), lr=declaration.lr.peak, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True
        )
        self._parent_heldout: list[Tensor] = []

    def run(self) -> Standing:
        """Train to the end, then put the best evaluated weights (the start's, if nothing was better) into the child."""
        standing = load_state(self._state_path, self.child, self.optimizer) or Standing()
        self.progress.start(f"uptraining {self.declaration.name}", self.steps)
        if standing.step:
            self.progress.log("uptrain_resumed", step=standing.step)
            self.progress.advance(standing.step)
        last_saved, writing_s = time.monotonic(), 0.0
        self._evaluate_when_due(standing)
        while standing.step < self.steps:
            began = time.monotonic()
            figures = self.step(standing.step)
            standing.step += 1
            tokens_per_s = self.declaration.batch * self.train_NT.shape[1] / (time.monotonic() - began)
            self._report(standing.step, figures, tokens_per_s)
            self._evaluate_when_due(standing)
            if time.monotonic() - last_saved >= max(CHECKPOINT_S, writing_s / CHECKPOINT_SHARE):
                began = time.monotonic()
                save_state(self._state_path, self.child, self.optimizer, standing)
                last_saved = time.monotonic()
                writing_s = last_saved - began
        if standing.best_step != self.steps:
            load_weights(self._best_path, self.child)
        return standing

    def step(self, step: int) -> Step:
        """One optimiser step over `batch` blocks, a few at a time."""
        declaration, size = self.declaration, self.declaration.batch
        rows_GT = self.train_NT[step * size : (step + 1) * size]
        totals = [0.0] * 4
        micro = max(1, MICRO_TOKENS // rows_GT.shape[1])
        for rows_BT in torch.split(rows_GT, micro):
            share = len(rows_BT) / size
            for i, value in enumerate(self._backward(rows_BT.to(self.device), share)):
                totals[i] += share * value
        loss = totals[0]
        if not math.isfinite(loss):
            peak = declaration.lr.peak
            raise DiagnosticError(
                LossDiverged(None, name=declaration.name, loss=loss, step=step + 1, peak=peak)
            )
        norm = torch.nn.utils.clip_grad_norm_(self.child.parameters(), MAX_GRAD_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(declaration.lr, step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Step(loss, totals[1], totals[2], totals[3], float(norm))

    def _backward(self, ids_BT: Tensor, share: float) -> tuple[float, float, float, float]:
        """Add the gradient of `share` times the mean loss of these blocks; returns loss, kld, cosine, lm."""
        weights = self.declaration
        every_layer = weights.cosine != 0
        with autocast(self.device):
            with torch.no_grad():
                parent = hidden_states(self.parent, ids_BT, every_layer=every_layer)
            child = hidden_states(self.child, ids_BT, every_layer=every_layer)
            logits = logit_loss(
                child.final.flatten(0, 1),
                output_embedding(self.child),
                parent.final.flatten(0, 1),
                output_embedding(self.parent),
                next_tokens(ids_BT).flatten(),
                kld=weights.kld,
                lm=weights.lm,
            )
            cosine = cosine_loss(child.layers, parent.layers) if every_layer else logits.total.new_zeros(())
            loss = logits.total + weights.cosine * cosine
        (share * loss).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), float(logits.kld), float(cosine.detach()), float(logits.lm)

    @torch.no_grad()
    def heldout_kl(self) -> float:
        """Mean KL(parent || child) in nats on the held-out blocks."""
        total, micro = 0.0, max(1, MICRO_TOKENS // self.heldout_NT.shape[1])
        with autocast(self.device):
            for i, rows_BT in enumerate(torch.split(self.heldout_NT, micro)):
                ids_BT = rows_BT.to(self.device)
                if i == len(self._parent_heldout):
                    final = hidden_states(self.parent, ids_BT, every_layer=False).final
                    self._parent_heldout.append(final.flatten(0, 1).cpu())
                child_NH = hidden_states(self.child, ids_BT, every_layer=False).final.flatten(0, 1)
                parent_NH = self._parent_heldout[i].to(self.device)
                embeddings = output_embedding(self.child), output_embedding(self.parent)
                total += len(rows_BT) * mean_kl(child_NH, embeddings[0], parent_NH, embeddings[1])
        return total / len(self.heldout_NT)

    def _evaluate_when_due(self, standing: Standing) -> None:
        due = {round(self.steps * i / EVALUATIONS) for i in range(EVALUATIONS + 1)}
        if standing.step not in due or standing.step in standing.heldout:
            return
        kl = self.heldout_kl()
        standing.heldout[standing.step] = kl
        self.progress.log("uptrain_heldout", step=standing.step, kl=kl)
        if standing.best_step == standing.step:
            save_weights(self._best_path, self.child)

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
            lr=learning_rate(self.declaration.lr, step - 1, self.steps),
        )

    @property
    def _state_path(self) -> Path:
        return self.work / "state.safetensors"

    @property
    def _best_path(self) -> Path:
        return self.work / "best.safetensors"


def next_tokens(ids_BT: Tensor) -> Tensor:
    """The label of each position [B, T]; the last of each block has none."""
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return labels_BT
