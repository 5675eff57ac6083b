"""Pieces of one BLD declaration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from puzzledsl.ir import nodes
from puzzledsl.pipeline import needs
from puzzledsl.pipeline.digests import digest_of
from puzzledsl.pipeline.inputs import data_inputs, jobs_of, pieces_of
from puzzledsl.pipeline.planning.flop import piece_params, shape_of, weight_bytes
from puzzledsl.pipeline.task import DeclaredTask, Key, Touched, Work
from puzzledsl.plan.memory.bld_stage import bld_stages
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

PASSES_A_STEP = 1.5  # of a piece, about half a layer each: forward, backward, optimiser


class Bld(DeclaredTask[nodes.Bld]):
    """Initialise the pieces from the parent and train each against the parent's sub-block."""

    stage, after, kind = "bld", "measure", "bld"
    words = {"jobs": "the list of pieces"}
    by_space, reads_text, sets_pace = True, True, True

    @classmethod
    def runs_again(cls, program: nodes.Program, name: str, touched: Touched) -> bool:
        """Return True if there are pieces that were not made before, or if nobody knows yet."""
        return name not in touched.pieces or touched.pieces[name].make > 0

    def needs(self) -> tuple[Key, ...]:
        return needs.narrowing(self.ctx, self.space)

    def inputs(self) -> dict[str, str]:
        return {
            "jobs": digest_of([job.id for job in pieces_of(self.ctx, self.name)]),
            "parent": self.ctx.fingerprint(self.space, "bld"),
            **data_inputs(self.ctx, self.declaration.data),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data,)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.data.budget import Budget

        if not pieces_of(self.ctx, self.name):
            return ()
        budget = Budget.of(self.declaration)
        return ((self.declaration.data, budget.blocks * budget.context, budget.context),)

    def work(self) -> Work:
        """Bytes, and passes of single layers; the time of all else is that of the memory plans."""
        declared, shape, jobs = (
            self.declaration,
            shape_of(self.program, self.space),
            jobs_of(self.ctx, self.name),
        )
        steps = declared.tokens // (declared.context * declared.batch)
        passes = (steps + declared.calibration_tokens // declared.context) * shape.layers
        calls = passes + PASSES_A_STEP * steps * len(jobs)
        params, size = sum(piece_params(job, shape) for job in jobs), weight_bytes(self.ctx, self.space)
        return Work(0.0, params * size, 2 * declared.tokens * shape.hidden * size, layer_calls=calls)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        jobs = jobs_of(self.ctx, self.name)
        return bld_stages(self.name, shape_of(self.program, self.space), jobs, device, disk_bytes=disk_bytes)

    def run(self) -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.pieces.train.run import BldInputs, run_bld

        ctx, jobs, library = self.ctx, pieces_of(self.ctx, self.name), Library(self.ctx.build.library)
        parent, work = ctx.parent_directory(self.space, "bld"), ctx.build.work("bld", self.name)
        maker = None
        if ctx.cluster is not None:
            from puzzledsl.pieces.cluster.on_ray import OnRay

            maker = OnRay(ctx.cluster)
        given = (ctx.program, self.name, jobs, parent, ctx.base, library, work, ctx.progress, maker)
        run_bld(BldInputs(*given))
        made = {job.id for job in jobs}
        return [ctx.build.library / piece.file for piece in library.pieces() if piece.job.id in made]

    def damaged(self) -> tuple[str, ...]:
        from puzzledsl.pieces.store.index import Index

        index = self.ctx.build.library / "index.jsonl"
        whole = {job.id for job in pieces_of(self.ctx, self.name)} <= Index(index).read().keys()
        return () if whole else (f"library/{index.name}",)
