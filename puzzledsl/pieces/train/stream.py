"""BLD without stored activations: each batch runs through a pipeline of stages, and each stage trains its own pieces on it.

In this process there is one stage with all layers; on a cluster each worker has a span of consecutive layers, and only hidden
states travel. All stages save their state every SAVED_STEPS steps, or less often where saving would take more than SAVED_SHARE of
the time. When a worker or the driver is lost, the run resumes from the last step that all stages had saved, on the workers that
there are. The pieces are those of `pieces.train.sweep`, bit for bit, however often the run is interrupted.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.cluster.tasks import (
    Executor,
    PiecesDontFit,
    Step,
    Task,
    Teams,
    TeamSpec,
    WorkerLost,
    WorkersKeepDying,
)
from puzzledsl.ir.tables import BldJob, Piece
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.pieces.train.layer_trainer import Order, is_checked_after
from puzzledsl.pieces.train.stage import Enter, Finished, SavedState, Stage
from puzzledsl.pieces.train.sweep import make_parts, prepare_work
from puzzledsl.plan.bld import spans, work_of
from puzzledsl.plan.memory.bld import alone, passes_of
from puzzledsl.plan.memory.stage_plan import Device

SAVED_STEPS = 100
"""Least number of steps between two savings, but for that of the last step. Steps since a saving are lost with a worker."""
SAVED_SHARE = 0.05
"""Largest share of the time from one saving to the next that a saving may take."""
MAX_LOSSES = 5
"""The run fails when it loses more workers than this between two savings."""


@dataclass
class Savings:
    """Schedule of savings: every SAVED_STEPS steps, less often where saving takes more than SAVED_SHARE of the time."""

    _began: float | None = field(init=False, default=None)
    _took_s: float = field(init=False, default=0.0)
    _waits: bool = field(init=False, default=False)

    def is_due(self, step: int) -> bool:
        """Return True if the state is to be saved after `step` steps; False while a saving is under way."""
        if self._waits or step % SAVED_STEPS:
            return False
        return self._began is None or monotonic() - self._began >= self._took_s / SAVED_SHARE

    def begin(self) -> None:
        """Note that a saving begins."""
        self._began, self._waits = monotonic(), True

    def end(self, took_s: float) -> None:
        """Note that the saving is on the disk. `took_s`: seconds that the slowest stage spent on it."""
        self._took_s, self._waits = took_s, False


@dataclass(frozen=True)
class Stages:
    """The `size` stages that make the pieces of an order, each a member of `team`. They go on from the last saved step."""

    order: Order
    progress: Progress
    team: Teams
    size: int
    savings: Savings = field(default_factory=Savings)

    def through(self, method: str, batch: Tensor, step: int = 0) -> Task:
        """Return the task (`method`, `step`) that embeds tokens [B, S] and passes them through `method` of each stage in turn."""
        rest = (Step(method, (), member) for member in range(self.size))
        return Task((method, step), (Step("embed", (batch,), 0), *rest))

    def each(self, method: str, *arguments: Any) -> list[Task]:
        """Return one task for each stage, which calls its `method` with these arguments."""
        return [Task((method, 0), (Step(method, arguments, member),)) for member in range(self.size)]

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call `method` of each stage and return one result for each, in the order in which they arrive."""
        return [result for _, result in self.team.run(self.each(method, *arguments))]

    def pass_through(self, method: str, batches: Iterable[Tensor]) -> None:
        """Pass batches of tokens [B, S] through `method` of each stage, in order; drop what the last stage returns."""
        for _ in self.team.run(self.through(method, batch) for batch in batches):
            pass

    def run(self, enter: Enter) -> None:
        """Initialise, train, evaluate and write the pieces, from the last saved step on; `enter` each. Raises DiagnosticError."""
        order, saved, held_out = self.order, SavedState(self.order), self.order.held_out_batches()
        steps, begun = order.budget.steps, saved.last_step()
        if begun is None:
            self.pass_through("calibrate", self.order.calibration_batches())
            self.ask("initialise")
            self.pass_through("evaluate", held_out)
            self.ask("begin")
            saved.commit(begun := 0)
        else:
            self.ask("restore", begun)
        self.progress.start(f"bld {self.order.name}, steps", steps)
        self.progress.advance(begun, kept=True)
        self._train(begun, steps)
        if steps:
            self.pass_through("evaluate", held_out)
        finished: list[Finished] = self.ask("finish")
        for piece, kept in (piece for pieces, _ in finished for piece in pieces):
            enter(piece, kept)
        if problems := [problem for _, found in finished for problem in found]:
            raise DiagnosticError(*problems)

    def _train(self, begun: int, steps: int) -> None:
        """Train from step `begun` to `steps`. Stages save between two of their own steps, so none waits for the last stage."""
        began, tokens, took = monotonic(), 0, list[float]()
        for task, result in self.team.run(self._tasks(begun, steps)):
            method, step = task.name
            if method == "step":
                tokens += self.order.budget.batch * self.order.budget.context
                self.progress.advance(1, tokens_per_s=tokens / max(monotonic() - began, 1e-9))
            elif method == "save":
                took.append(result)
                if len(took) == self.size:
                    SavedState(self.order).commit(step)
                    self.savings.end(max(took))
                    took.clear()

    def _tasks(self, begun: int, steps: int) -> Iterator[Task]:
        """Yield the tasks of the steps after `begun`: training batches, held-out batches for early stopping, and savings."""
        for step, batch in enumerate(self.order.training_batches()[begun:steps], begun + 1):
            yield self.through("step", batch, step)
            if is_checked_after(step, steps):
                yield self.through("check", self.order.held_out_batches()[0], step)
            if step == steps or self.savings.is_due(step):
                self.savings.begin()
                yield from (replace(task, name=("save", step)) for task in self.each("save", step))


@contextmanager
def stages(
    order: Order, executor: Executor, progress: Progress, model: PreTrainedModel | None = None
) -> Iterator[Stages]:
    """Open an order's stages: one in this process, with a loaded `model`, or one a worker. Raises DiagnosticError (NoWorkers)."""
    layers = spans(work_of(order.jobs, shape_of(load_config(order.parent_dir))), executor.settled())
    sent = replace(order, tokens=torch.empty(0, dtype=torch.int64))  # stages are sent what they need
    if not executor.is_local:
        progress.log("workers", on=executor.on, layers=layers)
    spec = TeamSpec(lambda member: Stage(sent, *layers[member], model), size=len(layers))
    with executor.open(spec, progress) as team:
        yield Stages(order, progress, team, len(layers))


def stream(
    order: Order, executor: Executor, enter: Enter, progress: Progress, model: PreTrainedModel | None = None
) -> None:
    """Make the pieces of an order, from the last saved step on; `model`: the parent for a stage in this process.

    `enter` is called for each piece whose file is written, with the weights that it keeps ("trained" or "initial").
    Raises DiagnosticError for the problems that stages report, after finished pieces are entered; WorkerLost.
    """
    with stages(order, executor, progress, model) as made:
        made.run(enter)


def train_elsewhere(executor: Executor, order: Order, enter: Enter, progress: Progress) -> None:
    """Make an order's pieces on the workers of a cluster, in as few passes as fit into their memory.

    After the loss of a worker the rest is divided anew over the workers that there are.
    Parent, library and work directory are on a file system that all machines share. Raises DiagnosticError for a stage's mistakes
    and for failures of the cluster.
    """
    paths = {name: getattr(order, name).resolve() for name in ("parent_dir", "library_root", "work")}
    order, made = replace(order, **paths), set[str]()
    losses, before = 0, (0, 0)

    def entered(piece: Piece, kept: str) -> None:
        enter(piece, kept)
        made.add(piece.job.id)

    def make(part: Order, enter: Enter) -> None:
        stream(part, executor, enter, progress)

    while todo := [job for job in order.jobs if job.id not in made]:
        try:
            parts = _parts(replace(order, jobs=todo), executor, progress)
            make_parts(order, parts, make, entered, progress)
        except WorkerLost as lost:
            reached = len(made), SavedState(order).step()
            losses, before = (losses + 1, reached) if reached == before else (1, reached)
            text = f"a worker was lost ({lost}); going on from step {reached[1]}"
            progress.log("worker_lost", text=text, step=reached[1])
            if losses > MAX_LOSSES:
                problem = WorkersKeepDying(None, on=executor.on, count=losses, reason=str(lost))
                raise DiagnosticError(problem) from lost


def _parts(order: Order, executor: Executor, progress: Progress) -> list[list[BldJob]]:
    """Split the order into passes that fit into the workers' memory. Raises DiagnosticError (PiecesDontFit), WorkerLost.

    Empties `order.work` first if its content was made from other inputs, on another kind of device or in another dtype.
    """
    with stages(order, executor, progress) as made:
        prepare_work(order, made.ask("arithmetic")[0])
        devices: list[Device] = made.ask("device")
    device = replace(min(devices, key=lambda each: each.usable_bytes), count=len(devices))
    shape = shape_of(load_config(order.parent_dir))
    parts = passes_of(shape, order.jobs, device)
    if parts is None:
        needed = format_quantity(max(alone(shape, job, device) for job in order.jobs), BYTES)
        room = format_quantity(device.usable_bytes, BYTES)
        raise DiagnosticError(PiecesDontFit(None, on=executor.on, needed=needed, room=room))
    if len(parts) > 1:
        text = f"pieces do not all fit into the workers' memory: they are made in {len(parts)} passes"
        progress.log("passes", text=text, passes=len(parts))
    return parts
