"""`pzl run --on …`: train pieces on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.cluster.connect import Cluster
from puzzledsl.cluster.errors import PiecesDontFit, WorkersKeepDying
from puzzledsl.cluster.tasks import WorkerLost
from puzzledsl.ir.tables import Piece
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.pieces.cluster.ray_executor import RayStages, SpansGrew, patiently
from puzzledsl.pieces.train.finished import Enter
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.parts import make_parts
from puzzledsl.pieces.train.passes import passes
from puzzledsl.pieces.train.run import prepare_work
from puzzledsl.pieces.train.stream import MAX_LOSSES, stream
from puzzledsl.plan.memory.bld import alone


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
