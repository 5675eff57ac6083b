"""The training loop of global knowledge distillation: resumable to the bit, and never worse than its start unless asked.

Shape legend: G blocks of one optimiser step, B of one forward, T tokens a block, N = B * T positions, M of them that losses
count, H hidden, V vocabulary.
"""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.data.streams import TokenRows
from puzzledsl.ir.nodes import Schedule, Uptrain
from puzzledsl.models.divergence import learning_rate
from puzzledsl.models.errors import LossDiverged, OutOfMemory
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.plan.memory.stage_plan import tiles
from puzzledsl.plan.memory.stages import UptrainChoice
from puzzledsl.uptrain import model
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks, Sharding, embedding_of, gathered, reshard
from puzzledsl.uptrain.state import BEST, Store, TrainingProgress, TrainingState


class MicroBatch(NamedTuple):
    """Token ids [B, T], their share of the step's losses, and the flat positions that count, int64 [M]; None: all of them."""

    ids_BT: Tensor
    share: float
    learned_M: Tensor | None = None


def micro_batches(ids_GT: Tensor, learned_GT: Tensor | None, micro: int, ranks: Ranks) -> list[MicroBatch]:
    """Return this process's micro-batches of a step, each with its share of the positions that count in the whole step.

    So the step's losses are means over all positions that count, however they are spread over blocks and processes. `learned_GT`:
    the positions that count, bool; None: all. `micro`: most blocks of one. Micro-batch i belongs to rank i mod world. Every
    process gets the same number of them: extra ones of share 0 keep a process in step with the others.
    """
    blocks = len(ids_GT)
    micro = max(1, min(micro, -(-blocks // ranks.world)))
    starts, found = range(0, blocks, micro), []
    total = blocks if learned_GT is None else max(1, int(learned_GT.sum()))
    for number in range(ranks.rank, -(-len(starts) // ranks.world) * ranks.world, ranks.world):
        mine = number < len(starts)
        rows = slice(starts[number], starts[number] + micro) if mine else slice(micro)
        learned_M = None if learned_GT is None else learned_GT[rows].flatten().nonzero().flatten()
        counted = len(ids_GT[rows]) if learned_M is None else len(learned_M)
        found.append(MicroBatch(ids_GT[rows], counted / total if mine else 0.0, learned_M))
    return found


MAX_GRAD_NORM = 1.0
BETAS, EPSILON = (0.9, 0.95), 1e-8
EVALUATIONS, EVALUATION_STEPS = 5, 4
"""Most held-out evaluations after the one at the start, and the least number of steps between them. There is one at the end."""
RATE_PER_NAT = 5e-4
"""Peak learning rate for each nat of the child's KL at the start. Steps as large as a far child needs drive a near one away."""
FORWARDS_A_STEP = 4
"""Time of a step in forward passes: the parent's, the child's, and two for its backward pass. An evaluation takes one."""
CHECKPOINT_S = 30.0  # between checkpoints, or longer where writing them
CHECKPOINT_SHARE = 0.05  # would take more than this share of the time


FIGURES = ("loss", "kld", "cosine", "lm", "grad_norm")
"""Mean losses of one optimiser step, the parts before weighting, and the gradient norm."""


def schedule_for(declaration: Uptrain, kl: float) -> Schedule:
    """Return the schedule for a child at `kl` nats: a lower peak near the parent, unless the program gives the rate."""
    lr = declaration.lr
    if not declaration.fits_child:
        return lr
    return lr.model_copy(update={"peak": min(lr.peak, RATE_PER_NAT * kl)})


PLAIN = UptrainChoice(0, recompute=False, offload=False)
"""Choice that saves no memory. `micro_blocks` 0 stands for as many blocks as a device needs for its full speed."""


def cure(choice: UptrainChoice) -> str:
    """Return the change of the program that takes less memory."""
    if choice.micro_blocks > 1:
        return f"write `micro_batch = {choice.micro_blocks // 2}`"
    return "use more processes" if choice.recompute else "write `micro_batch = 1, recompute = true`"


class Trainer:
    """One training run of a child against its parent, with its data and the store of its unfinished state."""

    def __init__(
        self,
        declaration: Uptrain,
        teacher: model.Teacher,
        student: model.Student,
        train_NT: TokenRows,
        heldout_NT: TokenRows,
        work: Path,
        progress: Progress,
        *,
        sharding: Sharding | None = None,
        means: UptrainChoice = PLAIN,
    ) -> None:
        """Prepare a training of the student, in place, on the blocks [steps * batch, T]. `sharding` None: models are whole."""
        child = student.model
        self.declaration, self.lr = declaration, declaration.lr
        self.teacher, self.student, self.child = teacher, student, child
        self.train_NT, self.heldout_NT = train_NT, heldout_NT
        self.progress, self.sharding = progress, sharding
        self.ranks = SINGLE_PROCESS if sharding is None else sharding.ranks
        self.device = child.device if sharding is None else sharding.device
        self.steps = steps = len(train_NT) // declaration.batch
        count = max(1, min(EVALUATIONS, steps // EVALUATION_STEPS))
        self._evaluations = {round(steps * i / count) for i in range(count + 1)}
        """The steps after which the child is compared on held-out text."""
        self._heldout_tokens = len(heldout_NT) * heldout_NT.shape[1]
        self._step_work = FORWARDS_A_STEP * declaration.batch * train_NT.shape[1]
        usual = means.micro_blocks or max(1, tiles(self.device.type).training_tokens // train_NT.shape[1])
        micro, recompute = declaration.micro_batch or usual, declaration.recompute or means.recompute
        self.means = replace(means, micro_blocks=micro, recompute=recompute)
        self.bf16 = model.in_bf16(self.device, declaration.dtype)
        model.prepare_training(child, scales=sharding is None)
        if self.means.recompute:
            model.recompute_layers(child)
        # scales' steps, which are relative, have the rate of weights, too
        given: dict[str, Any] = {
            "lr": declaration.lr.peak,
            "betas": BETAS,
            "eps": EPSILON,
            "weight_decay": 0.0,
        }
        self.optimizer = torch.optim.AdamW(child.parameters(), fused=True, **given)
        self._run = TrainingState(child, self.optimizer, Store(work, self.ranks))
        self._parent_heldout: list[Tensor] = []

    def run(self) -> TrainingProgress:
        """Train to the end, then put the best evaluated weights into the child; with `keep = last` those after the last step."""
        done = self._run.load() or TrainingProgress()
        self.progress.start(f"uptraining {self.declaration.name}", self.steps)
        if done.step:
            self.progress.log("uptrain_resumed", step=done.step)
            self.progress.advance(done.step, kept=True)
        last_saved, writing_s = time.monotonic(), 0.0
        self._evaluate_when_due(done)
        later = sum(at > done.step for at in self._evaluations)
        work = self._step_work * (self.steps - done.step) + self._heldout_tokens * later
        self.progress.ready(work, cold=1)  # the first step gets gradients' and the optimiser's memory
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
                self._run.save(done)
                last_saved = time.monotonic()
                writing_s = last_saved - began
        self._run.store.load(BEST, self._run.weights())
        return done

    def step(self, step: int) -> dict[str, float]:
        """Take optimiser step `step`, from 0, and return its FIGURES. Raises DiagnosticError: LossDiverged, weights unchanged."""
        size = self.declaration.batch
        rows = slice(step * size, (step + 1) * size)
        totals = self._gradients(self.train_NT[rows], self.train_NT.learned(rows))
        norm = gathered(torch.nn.utils.clip_grad_norm_(self.child.parameters(), MAX_GRAD_NORM))
        figures = dict(zip(FIGURES, torch.cat([totals, norm.to(totals)[None]]).tolist(), strict=True))
        if not math.isfinite(loss := figures["loss"]):
            name, peak = self.declaration.name, self.lr.peak
            raise DiagnosticError(LossDiverged(None, name=name, loss=loss, step=step + 1, peak=peak))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures

    def _gradients(self, rows_GT: Tensor, learned_GT: Tensor | None) -> Tensor:
        """Leave a step's gradients in the weights; return its mean losses, float64 [4]. Raises DiagnosticError (OutOfMemory)."""
        totals = torch.zeros(4, dtype=torch.float64, device=self.device)
        try:
            with repeatable(self.device):
                for batch in micro_batches(rows_GT, learned_GT, self.means.micro_blocks, self.ranks):
                    losses = self._backward(batch)
                    totals += batch.share * torch.stack([value.detach() for value in losses]).double()
                reshard(self.teacher)
                self.ranks.add_up(totals)
                return totals
        except torch.OutOfMemoryError as error:
            rank, name = self.ranks.rank, self.declaration.name
            problem = OutOfMemory(None, name=name, rank=rank, help=cure(self.means))
            raise DiagnosticError(problem) from error

    def _on_device(self, batch: MicroBatch) -> tuple[Tensor, Tensor | None]:
        """Return the token ids of a micro-batch and the positions that count."""
        ids_BT, _, learned_M = batch
        if self.device.type == "cuda":
            ids_BT = ids_BT.pin_memory().to(self.device, non_blocking=True)
            if learned_M is not None:
                learned_M = learned_M.pin_memory().to(self.device, non_blocking=True)
        return ids_BT, learned_M

    def _backward(self, batch: MicroBatch) -> model.Losses:
        """Add the gradient of loss * share * world (sharding divides sums by `world`); return the micro-batch's mean losses."""
        ids_BT, learned_M = self._on_device(batch)
        with self._autocast:
            target = self.teacher(ids_BT, self.declaration.cosine != 0)
            losses = cast(model.Losses, self.student(ids_BT, target, self.declaration, learned_M))
        (batch.share * self.ranks.world * losses.total).backward()  # type: ignore[no-untyped-call]
        return losses

    @torch.no_grad()
    def heldout_kl(self) -> float:
        """Mean KL(parent || child) in nats over the positions of the held-out blocks that losses count."""
        total, whole = 0.0, slice(None)
        blocks_NT = self.heldout_NT
        held_out = micro_batches(
            blocks_NT[whole], blocks_NT.learned(whole), self.means.micro_blocks, self.ranks
        )
        with self._autocast:
            for i, batch in enumerate(held_out):
                ids_BT, learned_M = self._on_device(batch)
                target = self._heldout_target(i, ids_BT)
                total += batch.share * float(self.student(ids_BT, target, None, learned_M))
        reshard(self.teacher)
        return self.ranks.sum([total])[0]

    def _heldout_target(self, number: int, ids_BT: Tensor) -> model.Target:
        """Return the parent's hidden states of a held-out micro-batch; they are computed once and kept on the CPU."""
        if number == len(self._parent_heldout):
            target = cast(model.Target, self.teacher(ids_BT, False))
            self._parent_heldout.append(target.final.cpu())
            return target
        return model.Target(self._parent_heldout[number].to(self.device), [], embedding_of(self.teacher))

    def _evaluate_when_due(self, done: TrainingProgress) -> None:
        if done.step not in self._evaluations or done.step in done.heldout:
            return
        kl = self.heldout_kl()
        if done.step:
            self.progress.advance(0, work=self._heldout_tokens)
        done.heldout[done.step] = kl
        self.progress.log("uptrain_heldout", step=done.step, kl=kl)
        kept = self.steps if self.declaration.keep == "last" else done.best_step
        if done.step == kept:
            self._run.store.save(BEST, self._run.weights(), {})

    def _report(self, step: int, figures: dict[str, float], tokens_per_s: float) -> None:
        loss, kl, speed = figures["loss"], figures["kld"], round(tokens_per_s)
        self.progress.advance(1, work=self._step_work, loss=loss, kl=kl, tokens_per_s=speed)
        rate = learning_rate(self.lr, step - 1, self.steps)
        self.progress.log("uptrain_step", step=step, **figures, lr=rate)

    @property
    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)
