"""`pzl run --on …`: train pieces on the workers of a Ray cluster."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.pieces.cluster.errors import (
    ClusterNotReached,
    PiecesDontFit,
    RayNotInstalled,
    WorkersKeepDying,
)
from puzzledsl.pieces.cluster.ray_executor import RayExecutor, first_line
from puzzledsl.pieces.train.finished import Enter
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.passes import passes
from puzzledsl.pieces.train.run import prepare_work
from puzzledsl.pieces.train.stream import MAX_LOSSES, WorkerLost, stream
from puzzledsl.plan.pipeline import training_bytes

PATIENCE_S = 10.0
"""Seconds that a cluster has to accept a connection."""


@dataclass(frozen=True)
class OnRay:
    """A `BldExecutor` on Ray. `on`: `local` starts a cluster on this machine, `auto` uses the one around it, else an address."""

    on: str

    def __call__(self, order: Order, enter: Enter, progress: Progress) -> None:
        """Train an order's pieces on the cluster. Raises DiagnosticError for a stage's mistakes and for cluster failures."""
        order = replace(
            order,
            parent_dir=order.parent_dir.resolve(),
            library_root=order.library_root.resolve(),
            work=order.work.resolve(),
        )
        with _connected(self.on) as ray:
            try:
                for part in self._passes(ray, order, progress):
                    with _executor(ray, self.on, part, progress) as executor:
                        stream(part, executor, enter, progress)
            except WorkerLost as lost:
                reason = str(lost)
                raise DiagnosticError(
                    WorkersKeepDying(None, on=self.on, count=MAX_LOSSES + 1, reason=reason)
                ) from lost

    def _passes(self, ray: Any, order: Order, progress: Progress) -> list[Order]:
        """Split the order into parts that fit into the workers' memory. Raises DiagnosticError (PiecesDontFit)."""
        with _executor(ray, self.on, order, progress) as executor:
            prepare_work(order, executor.result(executor.call(0, "arithmetic")))
            rooms = [executor.result(executor.call(stage, "room_bytes")) for stage in range(executor.size)]
        parts = passes(order, min(rooms))
        if parts is None:
            largest = max(training_bytes([job]) for job in order.jobs)
            needed, room = format_quantity(largest, BYTES), format_quantity(min(rooms), BYTES)
            raise DiagnosticError(PiecesDontFit(None, on=self.on, needed=needed, room=room))
        if len(parts) > 1:
            text = f"pieces do not all fit into the workers' memory: they are made in {len(parts)} passes"
            progress.log("passes", text=text, passes=len(parts))
        return parts


@contextmanager
def _executor(ray: Any, on: str, order: Order, progress: Progress) -> Iterator[RayExecutor]:
    executor = RayExecutor(ray, on, order, progress)
    try:
        yield executor
    finally:
        executor.shutdown()


@contextmanager
def _connected(on: str) -> Iterator[Any]:
    """Yield the connected package `ray`. An existing connection is used and stays open."""
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise DiagnosticError(RayNotInstalled(None, on=on)) from error
    if ray.is_initialized():
        yield ray
        return
    _must_answer(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = {"num_cpus": os.cpu_count(), "include_dashboard": False} if on == "local" else {}
    try:
        ray.init(address=on, log_to_driver=False, logging_level="error", **here)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise DiagnosticError(ClusterNotReached(None, on=on, reason=first_line(error))) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _must_answer(on: str) -> None:
    """Raise DiagnosticError (ClusterNotReached) if nothing listens at an address: Ray itself would retry for minutes."""
    host, colon, port = on.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DiagnosticError(ClusterNotReached(None, on=on, reason=reason)) from error
