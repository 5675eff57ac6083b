"""Global knowledge distillation of one child."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from puzzledsl.ir import facts, nodes
from puzzledsl.pipeline.digests import meaning
from puzzledsl.pipeline.inputs import data_inputs, only_data
from puzzledsl.pipeline.planning.flop import TRAINING, child_bytes, shape_of, token_flop
from puzzledsl.pipeline.task import DeclaredTask, Key, Work
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.uptrain import UptrainSizes, uptrain_plan

OPTIMISER_COPIES = 3  # weights and two moments, float32


class Uptrain(DeclaredTask[nodes.Uptrain]):
    """Train a realised child against the parent."""

    stage, after, kind = "uptrain", "realise", "uptrain"
    words = {"uptrain": "the declaration"}
    reads_text, sets_pace = True, True

    def needs(self) -> tuple[Key, ...]:
        return (("realise", self.declaration.search),)

    def inputs(self) -> dict[str, str]:
        return {
            "uptrain": meaning(self.declaration),
            "child": self.ctx.made("realise", self.declaration.search, "the child"),
            "parent": self.ctx.fingerprint(self.space, "uptrain"),
            **data_inputs(self.ctx, self.declaration.data or only_data(self.ctx)),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data,)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.uptrain.run import blocks_wanted

        declared = self.declaration
        data, context = declared.data or only_data(self.ctx), declared.context
        return ((data, blocks_wanted(declared) * context, context),)

    def work(self) -> Work:
        shape = shape_of(self.program, self.space)
        flop = self.declaration.tokens * (1 + TRAINING) * token_flop(shape, head=True)
        state = facts.total_params(shape) * 4 * (OPTIMISER_COPIES + 1)
        return Work(flop, child_bytes(self.ctx, self.space), state)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape = shape_of(self.program, self.space)
        sizes = UptrainSizes.of(self.declaration, shape, shape)
        return [uptrain_plan(sizes, device, name=self.name, flop=self.work().flop)[0]]

    def run(self) -> list[Path]:
        from puzzledsl.uptrain.ranks import announce, ranks_of
        from puzzledsl.uptrain.run import UptrainInputs, run_uptrain

        ctx, name, search = self.ctx, self.name, self.declaration.search
        ranks = ranks_of()
        if ranks.leads:
            announce(ranks, name)
        ctx.made("realise", search, "the child")
        parent, work = ctx.parent_directory(self.space, "uptrain"), ctx.build.work("uptrain", name)
        child, output = ctx.build.model(search), ctx.build.model(name)
        given = (ctx.program, name, parent, child, output, ctx.base, work, ctx.build.tokens, ctx.progress)
        run_uptrain(UptrainInputs(*given, ranks))
        return [output]
