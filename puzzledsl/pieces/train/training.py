"""Train all pieces of one layer side by side on one forward pass of the parent's layer (Puzzle, section 3).

Nothing here is random: pieces do not depend on each other, and batches come in the order of the blocks.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from puzzledsl.models.kernels.allocation import keep_freed_memory
from puzzledsl.models.layerwise import LayerTrace
from puzzledsl.models.placement import faster_in_bfloat16
from puzzledsl.models.schedule import learning_rate
from puzzledsl.pieces.train.losses import TINY, LossName, loss_of
from puzzledsl.pieces.train.student import Student

BETAS = (0.9, 0.95)
MAX_GRAD_NORM = 1.0
EXAMINATIONS, PATIENCE, MIN_INTERVAL = 16, 5, 16
"""Early stopping: a student is examined on one held-out batch about 16 times (at most every 16 steps), and stops after five
examinations in a row without a new best. Examinations during the warm-up do not count. Neither does the initial loss: after a
least-squares start, training may get back below it only when the learning rate has fallen."""
Seen = tuple[Tensor, LayerTrace]
"""Hidden states [B, S, H] that enter the layer, and the trace of the parent's layer on them."""


@dataclass
class Outcome:
    """Result of a student. `weights`: the better of initial and trained on held-out tokens. Losses: normalised MSE on these."""

    student: Student
    weights: dict[str, Tensor]
    loss_initial: float
    loss_trained: float | None  # None: not trained
    steps: int = 0  # number of training steps taken

    @property
    def improved(self) -> bool:
        """True when the trained weights are kept."""
        return self.loss_trained is not None and self.loss_trained < self.loss_initial

    @property
    def finite(self) -> bool:
        """False if the initial loss or the loss after training is NaN or infinite."""
        trained = self.loss_trained
        return math.isfinite(self.loss_initial) and (trained is None or math.isfinite(trained))

    @property
    def loss_final(self) -> float:
        """Loss of the weights that are kept."""
        return self.loss_trained if self.loss_trained is not None and self.improved else self.loss_initial


@dataclass
class Trainer:
    """AdamW optimiser and early stopping of one student. Weights and loss are float32; passes use bfloat16 where it is faster."""

    student: Student
    steps: int
    initial: dict[str, Tensor] = field(init=False)
    done: int = field(init=False, default=0)
    stopped: bool = field(init=False, default=False)
    _best: float = field(init=False, default=math.inf)
    _best_weights: dict[str, Tensor] = field(init=False, default_factory=dict)
    _stale: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        keep_freed_memory()
        self.initial = self.student.weights()
        self._parameters = list(self.student.trained.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=0.0, betas=BETAS, weight_decay=0.0, fused=True
        )

    @torch.enable_grad()
    def step(self, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Take one step of AdamW on one batch, unless training has stopped."""
        if self.stopped:
            return
        name: LossName = self.student.job.loss  # type: ignore[assignment]
        device = hidden_BSH.device
        with torch.autocast(device.type, torch.bfloat16, enabled=faster_in_bfloat16(device)):
            output = self.student.forward(hidden_BSH, trace)
        torch.autograd.backward(loss_of(name, output, self.student.target(trace)))
        self._clip()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.student.job.lr, self.done, self.steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def examine(self, held_out: Seen) -> None:
        """Measure the student on a held-out batch. After PATIENCE examinations without a new best, restore the best and stop."""
        if self.stopped or self.done < self.student.job.lr.warmup * self.steps:
            return
        loss = held_out_loss(self.student, [held_out])
        if not math.isfinite(loss):
            return  # the final examination reports it (`Outcome.finite`)
        if loss < self._best:
            self._best, self._best_weights, self._stale = loss, self.student.weights(), 0
            return
        self._stale += 1
        if self._stale >= PATIENCE:
            self.student.trained.load_state_dict(self._best_weights)
            self.stopped = True

    def memory(self) -> dict[str, Tensor]:
        """Return the state of training besides the weights.

        AdamW's `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME`; `best.NAME`, the weights of the best examination; `examined`,
        (best loss, examinations since, stopped, steps done).
        """
        kept = {f"best.{name}": weight for name, weight in self._best_weights.items()}
        kept["examined"] = torch.tensor(
            [self._best, self._stale, self.stopped, self.done], dtype=torch.float64
        )
        for name, weight in self.student.trained.named_parameters():
            for what, value in self._optimizer.state.get(weight, {}).items():
                kept[f"{what}.{name}"] = value
        return kept

    def go_on(self, memory: Mapping[str, Tensor]) -> None:
        """Restore the state that `memory` returned. The caller has loaded the student's weights already."""
        self._best, stale, stopped, done = memory["examined"].tolist()
        self._stale, self.stopped, self.done = int(stale), bool(stopped), int(done)
        for name, weight in self.student.trained.named_parameters():
            if f"best.{name}" in memory:
                self._best_weights[name] = memory[f"best.{name}"].to(weight.device)
            state = {
                what: memory[f"{what}.{name}"].to(weight.device)
                for what in ("step", "exp_avg", "exp_avg_sq")
                if f"{what}.{name}" in memory
            }
            if state:
                self._optimizer.state[weight] = state

    def _clip(self) -> None:
        norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if norm > MAX_GRAD_NORM:  # rare; otherwise clipping would only multiply all gradients by 1
            clip_grads_with_norm_(self._parameters, MAX_GRAD_NORM, norm)


def examined_after(step: int, steps: int) -> bool:
    """True if students are examined for early stopping after `step` of `steps`. False for the last step."""
    return step % max(MIN_INTERVAL, math.ceil(steps / EXAMINATIONS)) == 0 and step < steps


@torch.no_grad()
def held_out_loss(student: Student, held_out: Iterable[Seen]) -> float:
    """Return the normalised MSE of a student over all held-out tokens together."""
    squares = Squares()
    for hidden, trace in held_out:
        squares.add(student, hidden, trace)
    return squares.normalized_mse


@dataclass
class Squares:
    """Running sums of ||child - parent||^2 and ||parent||^2 over batches."""

    error: float = 0.0
    norm: float = 0.0

    @torch.no_grad()
    def add(self, student: Student, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Add a batch to both sums."""
        target = student.target(trace).float()
        difference = student.forward(hidden_BSH, trace).float() - target
        self.error += float(difference.square().sum(dtype=torch.float64))
        self.norm += float(target.square().sum(dtype=torch.float64))

    @property
    def normalized_mse(self) -> float:
        """Normalised MSE over the batches so far (Puzzle, section 3)."""
        return self.error / max(self.norm, TINY)


class School:
    """The students of one layer and their trainers. Pass all held-out batches to `examine`, then training batches to `teach`."""

    def __init__(self, students: Sequence[Student], steps: int) -> None:
        self.students = students
        self.held_out: list[Seen] = []
        self._initial_losses: list[float] | None = None
        self._steps, self._taught = steps, 0
        self._trainers = [
            Trainer(student, steps) if steps and student.needs_training else None for student in students
        ]

    def examine(self, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Keep a held-out batch, with the trace of the parent's layer on it."""
        self.held_out.append((hidden_BSH, trace))

    def teach(self, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Train every student that needs it for one step on a batch; examine them for early stopping when due."""
        self._measure_initial()
        self._taught += 1
        for trainer in self._trainers:
            if trainer is not None:
                trainer.step(hidden_BSH, trace)
                if examined_after(self._taught, self._steps):
                    trainer.examine(self.held_out[0])

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the result of each student, in the order of `students`, with losses on all held-out batches."""
        initial_losses = self._measure_initial()
        for student, trainer, loss in zip(self.students, self._trainers, initial_losses, strict=True):
            if trainer is None:
                yield Outcome(student, student.weights(), loss, None)
                continue
            trained = held_out_loss(student, self.held_out)
            outcome = Outcome(student, trainer.initial, loss, trained, trainer.done)
            if outcome.improved:
                outcome.weights = student.weights()
            yield outcome

    def _measure_initial(self) -> list[float]:
        if self._initial_losses is None:
            self._initial_losses = [held_out_loss(student, self.held_out) for student in self.students]
        return self._initial_losses
