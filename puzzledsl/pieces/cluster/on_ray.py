"""`pzl run --on …`: train pieces on a team of Ray workers, a span of consecutive layers each.

Only hidden states travel, through the object store. If a worker dies, all stages are recreated on the remaining workers and
continue from the last saved state; if workers join, on all of them. Parent, library and build directory must be on a file
system that all machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.cluster.tasks import Cluster, NoWorkers, PiecesDontFit, WorkerLost, WorkersKeepDying
from puzzledsl.cluster.workers import Team, Workers, unpack
from puzzledsl.ir.tables import Piece
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.run import prepare_work
from puzzledsl.pieces.train.stage import Enter, Stage
from puzzledsl.pieces.train.stream import MAX_LOSSES, stream
from puzzledsl.pieces.train.sweep import make_parts, passes
from puzzledsl.plan.memory.bld import alone, fits
from puzzledsl.plan.memory.stage_plan import Device
from puzzledsl.plan.spans import spans, work_of

T = TypeVar("T")
SILENT_S = 60.0
"""Seconds without an answer after which the log says which stage is waited for."""
WORTH_A_RESTART = 0.9
"""Workers that join are used if they cut the busiest worker's work to this share at least."""


class SpansGrew(Exception):
    """After the loss of workers the spans are longer, and the order's pieces no longer fit into a worker's memory."""


def patiently(start: Callable[[], T], progress: Progress) -> T:
    """Return what a function that starts workers returns, trying again where one is lost. Raises WorkerLost after MAX_LOSSES."""
    for _ in range(MAX_LOSSES):
        try:
            return start()
        except WorkerLost as lost:
            progress.log("worker_lost", text=f"a worker was lost ({lost}) before it began; others start")
    return start()


def _stage(order: Order, layers: Sequence[tuple[int, int]], member: int) -> Stage:
    return Stage(order, *layers[member])


class RayStages:
    """A `pieces.train.stream.StageExecutor` on a connected cluster."""

    def __init__(self, cluster: Cluster, order: Order, progress: Progress) -> None:
        self._workers, self._on, self._progress = Workers(cluster), cluster.on, progress
        self._ray = cluster.ray
        self._order = replace(
            order, tokens=torch.empty(0, dtype=torch.int64)
        )  # stages are sent what they need
        self._shape = shape_of(load_config(order.parent_dir))
        self._work = work_of(order.jobs, self._shape)
        self._team: Team | None = None
        self._layers: Sequence[tuple[int, int]] = ()
        self._start()

    @property
    def size(self) -> int:
        """Number of stages."""
        return len(self._layers)

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """See `StageExecutor`."""
        assert self._team is not None, "the stages have ended"
        return self._team.call(stage, method, *arguments)

    def result(self, answer: Any) -> Any:
        """See `StageExecutor`."""
        while not self._ray.wait([answer], timeout=SILENT_S)[0]:
            self._progress.log("waiting", text=f"{self.size} workers are at work on {self._order.name}")
        try:
            return unpack(self._ray.get(answer, timeout=SILENT_S))
        except Exception as error:  # everything that a worker raises, and its loss
            if (reason := self._workers.loss(error)) is not None:
                raise WorkerLost(reason) from error
            raise self._workers.mistake(error) from None

    def restart(self) -> None:
        """See `StageExecutor`. Raises SpansGrew if the pieces no longer fit."""
        if not fits(self._shape, self._order.jobs, patiently(self._restarted, self._progress)):
            raise SpansGrew

    def _restarted(self) -> Device:
        self.shutdown()
        self._start()
        return self.device()

    def device(self) -> Device:
        """Return the workers as plans take them: as many of the smallest as there are stages."""
        devices: list[Device] = [self.result(self.call(stage, "device")) for stage in range(self.size)]
        smallest = min(devices, key=lambda device: device.usable_bytes)
        return replace(smallest, count=self.size)

    def can_grow(self) -> bool:
        """See `StageExecutor`."""
        free = self._workers.free()
        if not free or self.size == len(self._work):
            return False
        return self._busiest(spans(self._work, self.size + free)) <= WORTH_A_RESTART * self._busiest(
            self._layers
        )

    def _busiest(self, layers: Sequence[tuple[int, int]]) -> float:
        return max(sum(self._work[first:end]) for first, end in layers)

    def shutdown(self) -> None:
        """End all workers."""
        if self._team is not None:
            self._workers.end(self._team)
        self._team = None

    def _start(self) -> None:
        free = self._workers.settled()
        while free:
            layers = spans(self._work, free)
            self._team = self._workers.start(partial(_stage, self._order, layers), len(layers))
            if self._team is not None:
                self._layers = layers
                self._progress.log("workers", on=self._on, unit=self._workers.unit, layers=layers)
                return
            free = min(free - 1, self._workers.free())  # some left before they were taken
        raise DiagnosticError(NoWorkers(None, on=self._on))


@dataclass(frozen=True)
class OnRay:
    """A `BldExecutor` on the workers of a Ray cluster."""

    cluster: Cluster

    def __call__(self, order: Order, enter: Enter, progress: Progress) -> None:
        """Train an order's pieces on the cluster. Raises DiagnosticError for a stage's mistakes and for cluster failures."""
        order = replace(
            order,
            parent_dir=order.parent_dir.resolve(),
            library_root=order.library_root.resolve(),
            work=order.work.resolve(),
        )
        made: set[str] = set()

        def entered(piece: Piece, kept: str) -> None:
            enter(piece, kept)
            made.add(piece.job.id)

        with self.cluster.session():
            while todo := [job for job in order.jobs if job.id not in made]:
                try:
                    self._run(replace(order, jobs=todo), entered, progress)
                except SpansGrew:
                    text = "fewer workers have too little memory for this pass: the rest is divided anew"
                    progress.log("spans_grew", text=text)
                except WorkerLost as lost:
                    count, reason = MAX_LOSSES + 1, str(lost)
                    raise DiagnosticError(
                        WorkersKeepDying(None, on=self.cluster.on, count=count, reason=reason)
                    ) from lost

    def _run(self, order: Order, enter: Enter, progress: Progress) -> None:
        def make(part: Order, enter: Enter) -> None:
            with self._stages(part, progress) as stages:
                stream(part, stages, enter, progress)

        parts = patiently(lambda: self._passes(order, progress), progress)
        make_parts(parts, "pass", make, enter, progress)

    def _passes(self, order: Order, progress: Progress) -> list[Order]:
        """Split the order into parts that fit into the workers' memory. Raises DiagnosticError (PiecesDontFit)."""
        with self._stages(order, progress) as stages:
            prepare_work(order, stages.result(stages.call(0, "arithmetic")))
            device = stages.device()
        shape = shape_of(load_config(order.parent_dir))
        parts = passes(order, shape, device)
        if parts is None:
            needed = format_quantity(max(alone(shape, job, device) for job in order.jobs), BYTES)
            room = format_quantity(device.usable_bytes, BYTES)
            raise DiagnosticError(PiecesDontFit(None, on=self.cluster.on, needed=needed, room=room))
        if len(parts) > 1:
            text = f"pieces do not all fit into the workers' memory: they are made in {len(parts)} passes"
            progress.log("passes", text=text, passes=len(parts))
        return parts

    @contextmanager
    def _stages(self, order: Order, progress: Progress) -> Iterator[RayStages]:
        stages = RayStages(self.cluster, order, progress)
        try:
            yield stages
        finally:
            stages.shutdown()
