"""Replace-1-block scores of one declaration."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import Run, runs_to_drop
from puzzledsl.pipeline.inputs import data_inputs, healing_of_scores, jobs_of, pieces_of
from puzzledsl.pipeline.planning.flop import (
    BYTES_A_TOKEN,
    file_bytes,
    head_flop,
    shape_of,
    token_flop,
)
from puzzledsl.pipeline.stamps import digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.task import DeclaredTask, Key, Work
from puzzledsl.plan.memory.activations import weights_of
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
        around = self.method.around
        return ("bld", self.bld), *((("solve", around),) if around else ())

    def inputs(self) -> dict[str, str]:
        ctx, method = self.ctx, self.method
        tasks = {"tasks": files_fingerprint([method.tasks], ctx.base)} if method.tasks else {}
        parent = ctx.fingerprint(self.space, "score")
        pieces = ctx.made("bld", self.bld, "the pieces")
        child = {"child": ctx.made("solve", method.around, "the solutions")} if method.around else {}
        return {
            "score": meaning(method),
            "scoring": SCORING,
            "space": meaning(self.program.spaces[self.space]),
            "pieces": pieces,
            "parent": parent,
            **child,
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
        replaced = method.rounds * count * tokens * (body / 2 + head)
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
        from puzzledsl.pipeline.rounds.rescoring import scores_around
        from puzzledsl.scoring.inputs import ScoreInputs
        from puzzledsl.scoring.run import run_score

        ctx, name, around = self.ctx, self.name, self.method.around
        ctx.made("bld", self.bld, "the pieces")
        library, jobs = Library(ctx.build.library), pieces_of(ctx, self.bld)
        parent, work = ctx.parent_directory(self.space, "score"), ctx.build.work("score", name)
        if around is not None:
            work = ctx.build.work("score", f"{name}-{digest_of(self.inputs())[:16]}")
        given = (ctx.program, name, parent, ctx.base, library, jobs, work, ctx.progress)
        inputs = ScoreInputs(*given, executor=ctx.executor)
        table = run_score(inputs) if around is None else scores_around(ctx, inputs, around)
        output = ctx.build.scores(name)
        write_text(output, table.canonical_json())
        shutil.rmtree(ctx.build.work("score", name), ignore_errors=True)
        return [output]
