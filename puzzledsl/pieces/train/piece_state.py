"""State of one piece in training: weights, losses, AdamW, early stopping, and losses on held-out tokens (Puzzle, section 3).

Weights and training losses are float32 for inputs of any dtype; passes use bfloat16 where it is faster. Nothing here is random.

A batch runs through a layer and its pieces in micro-batches that fit in memory (`WorkerPlan.micro_blocks`). Its gradient is the
weighted sum of theirs, so its step differs from that of an undivided batch only by the rounding of sums. A batch that fits is
not divided. On a GPU, copies to and from the host overlap with computation.

Shapes: B sequences, S positions, H hidden.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from puzzledsl.models.divergence import learning_rate, warmup_steps
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.kernels.products import keep_freed_memory, repeatable
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import LayerTrace
from puzzledsl.models.placement import faster_in_bfloat16
from puzzledsl.pieces.train.student import Student

BETAS = (0.9, 0.95)
MAX_GRAD_NORM = 1.0
PATIENCE = 5
"""A piece stops after this many checks in a row without a new best loss."""
TINY = 1e-12
LONGEST_DOT = 2**31 - 1
"""Most numbers in one dot product: cuBLAS counts them in 32 bits."""


def normalized_mse(child_BSH: Tensor, parent_BSH: Tensor) -> Tensor:
    """Return ||child - parent||^2 / ||parent||^2 (Puzzle, section 3). It is 1 for a child that outputs zero."""
    squared_error = cast(Any, SquaredError).apply  # torch has no types for it
    return cast(Tensor, squared_error(child_BSH.float(), parent_BSH.float(), squared_norm(parent_BSH)))


class SquaredError(torch.autograd.Function):
    """sum((child - parent)^2) / norm with `child`'s gradient, in three passes over memory; torch's own operations need eight."""

    @staticmethod
    def forward(ctx: Any, child_BSH: Tensor, parent_BSH: Tensor, norm: Tensor) -> Tensor:
        """Return the scalar loss; save the difference for the backward pass."""
        difference = (child_BSH - parent_BSH).flatten()
        ctx.difference, ctx.norm, ctx.shape = difference, norm, child_BSH.shape
        return squared(difference) / norm

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the child's gradient, 2 (child - parent) / norm times the loss's. Call it once: it overwrites the difference."""
        scaled: Tensor = ctx.difference.mul_(2 * gradients[0] / ctx.norm)
        return scaled.view(ctx.shape), None, None


def squared_norm(parent_BSH: Tensor) -> Tensor:
    """Return ||parent||^2, float32, at least `TINY`. It is a micro-batch's weight in the mean loss of its batch."""
    return squared(parent_BSH.float().flatten()).clamp_min(TINY)


def squared(flat: Tensor) -> Tensor:
    """Return ||flat||^2, in parts if it has more than LONGEST_DOT numbers."""
    if flat.numel() <= LONGEST_DOT:
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(part, part) for part in torch.split(flat, LONGEST_DOT)]).sum()


@dataclass
class SquaredErrors:
    """Running sums of ||child - parent||^2 and ||parent||^2 over batches: float64 on their device, so that adding never waits."""

    error: Tensor | float = 0.0
    norm: Tensor | float = 0.0

    @torch.no_grad()
    def add(self, student: Student, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Add a batch: hidden states that enter the layer, and the trace of the parent's layer on them."""
        target = student.target(trace).float()
        difference = student.forward(hidden_BSH, trace).float() - target
        self.error = self.error + difference.square().sum(dtype=torch.float64)
        self.norm = self.norm + target.square().sum(dtype=torch.float64)

    @property
    def normalized_mse(self) -> float:
        """Normalised MSE over the batches so far (Puzzle, section 3)."""
        return float(self.error) / max(float(self.norm), TINY)


class PieceState:
    """A piece in a run of `steps` training steps; it has an optimiser (AdamW) unless it needs no training.

    Calls of `evaluate`, then `begin`, set the initial loss; later `evaluate` calls make up `trained_loss`. A training step is one
    or more calls of `accumulate`, then `update`; a check for early stopping is calls of `observe`, then `judge`.
    """

    def __init__(self, student: Student, steps: int) -> None:
        keep_freed_memory()
        self.student, self.steps = student, steps
        self.loss_initial, self.done, self.stopped = math.nan, 0, False
        self._optimizer: torch.optim.Optimizer | None = None
        self._errors, self._observed = SquaredErrors(), SquaredErrors()
        self._weight: Tensor | None = None  # of the micro-batches accumulated so far
        self._best, self._stale = math.inf, 0
        self._best_weights: dict[str, Tensor] = {}
        self.initial: Callable[[], dict[str, Tensor]] = lambda: weights_of(student.trained)
        """Return the initial weights: from the host's memory or the disk, or the present ones if the piece is not trained."""
        if steps and student.needs_training:
            initial = student.weights()
            self.initial = lambda: initial
            weights = student.trained.parameters()
            self._optimizer = torch.optim.AdamW(weights, lr=0.0, betas=BETAS, weight_decay=0.0, fused=True)

    def keep_initial_elsewhere(self, read: Callable[[], dict[str, Tensor]]) -> None:
        """Drop the initial weights of a piece in training from memory; `initial` calls `read` from then on."""
        if self._optimizer is not None:
            self.initial = read

    def evaluate(self, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Add a held-out batch to the loss. A piece that is not trained keeps the initial loss that `begin` has set."""
        if self._optimizer is not None or math.isnan(self.loss_initial):
            self._errors.add(self.student, hidden_BSH, trace)

    def begin(self) -> None:
        """Take the loss of the batches evaluated so far as the initial loss."""
        self.loss_initial, self._errors = self._errors.normalized_mse, SquaredErrors()

    @torch.enable_grad()
    def accumulate(self, hidden_BSH: Tensor, trace: LayerTrace, *, weighted: bool = False) -> None:
        """Add a batch's gradients, if the piece still trains; those of a micro-batch are `weighted` by its `squared_norm`."""
        if not self._trains:
            return
        device = hidden_BSH.device
        with repeatable(device):
            with torch.autocast(device.type, torch.bfloat16, enabled=faster_in_bfloat16(device)):
                output = self.student.forward(hidden_BSH, trace)
            target = self.student.target(trace)
            loss = normalized_mse(output, target)
            if weighted:
                weight = squared_norm(target)
                loss = loss * weight
                self._weight = weight if self._weight is None else self._weight + weight
            torch.autograd.backward(loss)

    def update(self) -> None:
        """Take one AdamW step on the accumulated gradients, clipped to MAX_GRAD_NORM, if the piece still trains."""
        if not self._trains:
            return
        weights = list(self.student.trained.parameters())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if self._weight is not None:
            for gradient in gradients:
                gradient.div_(self._weight)
            self._weight = None
        norm = get_total_norm(gradients)
        # Clipping is rare; without it, it only multiplies all gradients by 1. On a GPU, asking would take longer.
        if norm.is_cuda or norm > MAX_GRAD_NORM:
            clip_grads_with_norm_(weights, MAX_GRAD_NORM, norm)
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.student.job.lr, self.done, self.steps)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def observe(self, hidden_BSH: Tensor, trace: LayerTrace) -> None:
        """Add a held-out micro-batch to the loss that `judge` compares; not during warm-up, nor after training has stopped."""
        if self._is_checked:
            self._observed.add(self.student, hidden_BSH, trace)

    def judge(self) -> None:
        """End a check: keep weights with the best loss so far; after PATIENCE checks without one, restore the best and stop."""
        if not self._is_checked:
            return
        loss, self._observed = self._observed.normalized_mse, SquaredErrors()
        if not math.isfinite(loss):
            return  # the final evaluation reports it (`stage.write_finished`)
        if loss < self._best:
            self._best, self._best_weights, self._stale = loss, self.student.weights(), 0
            return
        self._stale += 1
        if self._stale >= PATIENCE:
            load_weights_into(self.student.trained, self._best_weights)
            self.stopped = True

    @property
    def _trains(self) -> bool:
        """False for a piece that needs no training, or has stopped."""
        return self._optimizer is not None and not self.stopped

    @property
    def _is_checked(self) -> bool:
        warming_up = self.done < warmup_steps(self.student.job.lr, self.steps)
        return self._optimizer is not None and not self.stopped and not warming_up

    def trained_loss(self) -> float | None:
        """Return the loss of the batches evaluated since `begin`; None for a piece that is not trained."""
        return None if self._optimizer is None else self._errors.normalized_mse

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of training besides initial weights and loss; empty for a piece that needs no training.

        The weights; AdamW's `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME`; `best.NAME`, the weights of the best check;
        `examined`, (best loss, checks since, stopped, steps done).
        """
        if self._optimizer is None:
            return {}
        kept = self.student.weights()
        kept |= {f"best.{name}": weight for name, weight in self._best_weights.items()}
        examined = [self._best, self._stale, self.stopped, self.done]
        kept["examined"] = torch.tensor(examined, dtype=torch.float64)
        for name, weight in self.student.trained.named_parameters():
            for what, value in self._optimizer.state.get(weight, {}).items():
                kept[f"{what}.{name}"] = value
        return kept

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        if self._optimizer is None:
            return
        names = tuple(weights_of(self.student.trained))
        load_weights_into(self.student.trained, {name: state[name] for name in names})
        self._best, stale, stopped, done = state["examined"].tolist()
        self._stale, self.stopped, self.done = int(stale), bool(stopped), int(done)
        self._best_weights = {name: state[f"best.{name}"] for name in names if f"best.{name}" in state}
        for name, weight in self.student.trained.named_parameters():
            moments = {
                what: state[f"{what}.{name}"].to(weight.device)
                for what in ("step", "exp_avg", "exp_avg_sq")
                if f"{what}.{name}" in state
            }
            if moments:
                self._optimizer.state[weight] = moments


Deliver = Callable[[Tensor], object]
"""Callback that takes a tensor in the host's memory. The tensor is valid only during the call."""


def uploaded(parts: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield tensors in order, copied to `device` if they are not there. A GPU copies the next one while the caller uses one."""
    if device.type != "cuda":
        yield from (part.to(device) for part in parts)
        return
    here, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(part: Tensor) -> Tensor:
        """Begin to copy a part to the device. The copy waits for the current stream, which may still use the memory it gets."""
        if part.is_cuda:
            return part
        copy = torch.empty(part.shape, dtype=part.dtype, device=device)
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            return copy.copy_(part.pin_memory(), non_blocking=True)

    try:
        waiting: Tensor | None = None
        for part in parts:
            following = copied(part)
            if waiting is not None:
                yield waiting
            here.wait_stream(stream)
            waiting = following
        if waiting is not None:
            yield waiting
    finally:
        here.wait_stream(stream)  # before the memory of a copy that nobody waits for is used again


Copy = tuple[torch.cuda.Event, Tensor, Deliver]
"""A copy under way: the event recorded at its end, the pinned memory that it fills, and the callback that takes this."""


class Downloads:
    """Queue of copies from the device to the host: each is delivered when the next one is added, or by `finish`."""

    def __init__(self) -> None:
        self._under_way: Copy | None = None

    def add(self, tensor: Tensor, deliver: Deliver) -> None:
        """Copy a tensor to the host's memory and call `deliver` on the copy: at once on a CPU, at the next call on a GPU."""
        if not tensor.is_cuda:
            self.finish()
            deliver(tensor)
            return
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(tensor.device))
        self.finish((copied, pinned, deliver))

    def finish(self, following: Copy | None = None) -> None:
        """Deliver the copy under way, if there is one. `following`, the next copy, is under way from then on."""
        before, self._under_way = self._under_way, following
        if before is not None:
            copied, pinned, deliver = before
            copied.synchronize()
            deliver(pinned)


Each = Callable[[PieceState, Tensor, LayerTrace], None]


@dataclass(frozen=True, slots=True)
class Visit:
    """Methods of PieceState for a batch: `whole` on all of it, or `part` on each micro-batch; then `update`, and then `end`."""

    whole: Each
    part: Each
    update: Callable[[PieceState], None] = lambda piece: None
    end: Callable[[PieceState], None] = lambda piece: None


STEP = Visit(PieceState.accumulate, partial(PieceState.accumulate, weighted=True), update=PieceState.update)
EVALUATE = Visit(PieceState.evaluate, PieceState.evaluate)
CHECK = Visit(PieceState.observe, PieceState.observe, end=PieceState.judge)


class MicroBatches:
    """Runs batches through layers of `runner`, at most `blocks` sequences at a time."""

    def __init__(self, runner: LayerRunner, blocks: int) -> None:
        self._runner, self.blocks = runner, blocks

    def through(
        self, layer_idx: int, pieces: Sequence[PieceState], hidden_BSH: Tensor, visit: Visit
    ) -> Tensor:
        """Run a layer on a batch and `visit` its pieces; return the layer's output [B, S, H], on the host if run in parts."""
        if len(hidden_BSH) <= self.blocks:
            hidden_BSH = hidden_BSH.to(self._runner.device)
            trace = self._traced(layer_idx, hidden_BSH)
            for piece in pieces:  # one piece's gradients exist at a time
                visit.whole(piece, hidden_BSH, trace)
                visit.update(piece)
            for piece in pieces:  # after all have seen the batch, because any of them may run out of memory
                visit.end(piece)
            return trace.output

        def part(part_BSH: Tensor) -> Tensor:
            trace = self._traced(layer_idx, part_BSH)
            for piece in pieces:
                visit.part(piece, part_BSH, trace)
            return trace.output

        leaving_BSH = self._collected(hidden_BSH, part)
        for piece in pieces:
            visit.update(piece)
            visit.end(piece)
        return leaving_BSH

    def forward(self, layers: Sequence[int], hidden_BSH: Tensor) -> Tensor:
        """Run consecutive layers without pieces on a batch. Return the last one's output, [B, S, H]."""

        def part(part_BSH: Tensor) -> Tensor:
            with torch.no_grad():
                for layer_idx in layers:
                    part_BSH = self._runner.run_layer(layer_idx, part_BSH)
            return part_BSH

        if len(hidden_BSH) <= self.blocks:
            return part(hidden_BSH.to(self._runner.device))
        return self._collected(hidden_BSH, part)

    def _collected(self, hidden_BSH: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the results of `run` on each micro-batch, together, in the host's memory."""
        leaving_BSH = torch.empty(hidden_BSH.shape, dtype=hidden_BSH.dtype)
        places, downloads = iter(torch.split(leaving_BSH, self.blocks)), Downloads()
        for part_BSH in uploaded(torch.split(hidden_BSH, self.blocks), self._runner.device):
            downloads.add(run(part_BSH), next(places).copy_)
        downloads.finish()
        return leaving_BSH

    @torch.no_grad()
    def _traced(self, layer_idx: int, hidden_BSH: Tensor) -> LayerTrace:
        return self._runner.trace_layer(layer_idx, hidden_BSH)
