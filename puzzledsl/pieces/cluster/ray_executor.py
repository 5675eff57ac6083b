"""Stages of consecutive layers as Ray actors: only hidden states travel, through the object store.

If a worker dies, all stages are recreated on the remaining workers and continue from the last saved state. Parent,
library and build directory must be on a file system that all machines share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.pieces.cluster.errors import NoWorkers
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.spans import spans, work_of
from puzzledsl.pieces.train.stage import Stage
from puzzledsl.pieces.train.stream import WorkerLost


class RayExecutor:
    """A `pieces.train.stream.StageExecutor`. `ray` is the package, already connected to the cluster `on`."""

    def __init__(self, ray: Any, on: str, order: Order, progress: Progress) -> None:
        self._ray, self._on, self._progress = ray, on, progress
        self._order = replace(
            order, tokens=torch.empty(0, dtype=torch.int64)
        )  # stages are sent what they need
        self._work = work_of(order, shape_of(load_config(order.parent_dir)))
        self._actors: list[Any] = []
        self._start()

    @property
    def size(self) -> int:
        """Number of stages."""
        return len(self._actors)

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """See `StageExecutor`."""
        return getattr(self._actors[stage], method).remote(*arguments)

    def result(self, answer: Any) -> Any:
        """See `StageExecutor`."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.RayTaskError as error:
            if isinstance(error.cause, DiagnosticError):
                raise error.cause from None
            if self._is_loss(error.cause):
                raise WorkerLost(first_line(error.cause)) from error
            raise
        except errors.RayError as error:
            if self._is_loss(error):
                raise WorkerLost(first_line(error)) from error
            raise

    def restart(self) -> None:
        """See `StageExecutor`."""
        self.shutdown()
        self._start()

    def shutdown(self) -> None:
        """End all workers."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def _start(self) -> None:
        resources = self._ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        workers = gpus or cpus
        if not workers:
            raise DiagnosticError(NoWorkers(None, on=self._on))
        options = {
            "num_cpus": 0 if gpus else 1,
            "num_gpus": 1 if gpus else 0,
            "scheduling_strategy": "SPREAD",
        }
        actor = self._ray.remote(Stage).options(**options, max_restarts=0, max_task_retries=0)
        layers = spans(self._work, workers)
        threads = torch.get_num_threads()  # bits depend on it, and Ray's workers would have one
        self._actors = [actor.remote(self._order, *span, None, threads) for span in layers]
        self._progress.log("workers", on=self._on, gpus=gpus, cpus=cpus, layers=layers)

    def _is_loss(self, error: object) -> bool:
        errors = self._ray.exceptions
        lost: Sequence[type[BaseException]] = (
            errors.RayActorError,
            errors.ObjectLostError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
        )
        return isinstance(error, tuple(lost))


def first_line(error: object) -> str:
    """Return the first line of an error of Ray's, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
