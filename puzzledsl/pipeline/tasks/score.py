"""The tasks `bld` and `score`: pieces of a BLD, and replace-1-block scores."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import Run, runs_to_drop
from puzzledsl.pipeline import opening as needs
from puzzledsl.pipeline.inputs import data_inputs, healing_of_scores, jobs_of, pieces_of
from puzzledsl.pipeline.stamps import digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.task import (
    BYTES_A_TOKEN,
    DeclaredTask,
    Key,
    Touched,
    Work,
    file_bytes,
    head_flop,
    piece_params,
    shape_of,
    token_flop,
    weight_bytes,
)
from puzzledsl.plan.memory.bld import weights_of
from puzzledsl.plan.memory.bld_stage import bld_stages
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import ScoringSizes, scoring_plan

SCORING = "influence"
"""Version of what a measured table holds besides scores; raised when that changes, so that tables made before are made again."""
HEALING = 4.0  # parent, child and Gram matrices, in forwards
LAYERS_HEALED = 1.5  # the layer behind, and of its own what stands around the change


class Score(DeclaredTask[nodes.Score]):
    """Replace one block at a time and compare with the parent."""

    stage, after, kind = "score", "bld", "score"
    words = {"score": "the declaration", "scoring": "what scoring measures", "space": "the space"}
    by_space, reads_text = True, True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Score]:
        """Return measured scores, first those that are fitted to children.

        Their pass keeps KLs by position, and others that differ in the metric alone read its figures.
        """
        found = {n: s for n, s in program.scores.items() if isinstance(s.method, nodes.ReplaceOne)}
        fitted = {
            n: s for n, s in found.items() if isinstance(s.method, nodes.ReplaceOne) and s.method.children
        }
        return fitted | found

    @property
    def method(self) -> nodes.ReplaceOne:
        """The settings of `replace_one`."""
        assert isinstance(self.declaration.method, nodes.ReplaceOne)
        return self.declaration.method

    @property
    def bld(self) -> str:
        """The BLD that makes the pieces."""
        assert self.declaration.bld is not None
        return self.declaration.bld

    def needs(self) -> tuple[Key, ...]:
        return (("bld", self.bld),)

    def inputs(self) -> dict[str, str]:
        ctx, method = self.ctx, self.method
        tasks = {"tasks": files_fingerprint([method.tasks], ctx.base)} if method.tasks else {}
        parent = ctx.fingerprint(self.space, "score")
        pieces = ctx.made("bld", self.bld, "the pieces")
        return {
            "score": meaning(method),
            "scoring": SCORING,
            "space": meaning(self.program.spaces[self.space]),
            "pieces": pieces,
            "parent": parent,
            **tasks,
            **data_inputs(ctx, method.data or self.program.blds[self.bld].data),
            **({"healing": healing_of_scores(ctx, [self.bld])} if method.healed else {}),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.method.data,)

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        return [(self.method.tasks, self.declaration.where)] if self.method.tasks else []

    def work(self) -> Work:
        """Every replacement runs the layers above it, half of them on average, and the head."""
        method, shape = self.method, shape_of(self.program, self.space)
        layers = self.program.spaces[self.space].layers
        count = sum(len(layer.attention) + len(layer.ffn) for layer in layers)
        if method.unit == "block":
            count = sum(len(layer.attention) * len(layer.ffn) for layer in layers)
        tokens = self._tokens()
        body, head, dropped = token_flop(shape, head=False), head_flop(shape), self._runs()
        replaced = count * tokens * (body / 2 + head)
        whole = method.children * tokens * token_flop(shape, head=True)
        runs = tokens * sum(body * (1 - (first + length) / shape.layers) + head for first, length in dropped)
        healed = HEALING * LAYERS_HEALED * (body / shape.layers) * method.healed * (count + len(dropped))
        return Work(replaced + whole + runs + healed, runs=len(dropped))

    def _tokens(self) -> int:
        """The tokens that are scored, about."""
        if self.method.tasks is None:
            return self.method.samples
        return int(file_bytes(self.ctx.base, [self.method.tasks]) / BYTES_A_TOKEN)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        sizes = ScoringSizes(
            shape=shape_of(self.program, self.space),
            positions=self._tokens(),
            piece_weights=max(map(weights_of, jobs_of(self.ctx, self.bld)), default=0),
            longest_run=max((length for _, length in self._runs()), default=0),
        )
        return [scoring_plan(self.name, sizes, device, self.work().flop)]

    def _runs(self) -> list[Run]:
        """The runs of layers that are measured."""
        shape = shape_of(self.program, self.space)
        return runs_to_drop(self.program.spaces[self.space].layers, shape, self.method.runs)

    def run(self) -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.scoring.inputs import ScoreInputs
        from puzzledsl.scoring.run import run_score

        ctx, name = self.ctx, self.name
        ctx.made("bld", self.bld, "the pieces")
        library, jobs = Library(ctx.build.library), pieces_of(ctx, self.bld)
        parent, work = ctx.parent_directory(self.space, "score"), ctx.build.work("score", name)
        given = (ctx.program, name, parent, ctx.base, library, jobs, work, ctx.progress)
        inputs = ScoreInputs(*given, executor=ctx.executor)
        output = ctx.build.scores(name)
        write_text(output, run_score(inputs).canonical_json())
        shutil.rmtree(ctx.build.work("score", name), ignore_errors=True)
        return [output]


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
        from puzzledsl.data.counts import Budget

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
        given = (ctx.program, self.name, jobs, parent, ctx.base, library, work, ctx.progress, ctx.executor)
        run_bld(BldInputs(*given))
        made = {job.id for job in jobs}
        return [ctx.build.library / piece.file for piece in library.pieces() if piece.job.id in made]

    def damaged(self) -> tuple[str, ...]:
        from puzzledsl.pieces.store.index import Index

        index = self.ctx.build.library / "index.jsonl"
        whole = {job.id for job in pieces_of(self.ctx, self.name)} <= Index(index).read().keys()
        return () if whole else (f"library/{index.name}",)
