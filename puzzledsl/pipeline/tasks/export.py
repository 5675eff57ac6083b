"""A child, written where and for what it is to be used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from puzzledsl.ir import nodes
from puzzledsl.ir.measured_engines import RECIPES
from puzzledsl.ir.references import evaluations_of
from puzzledsl.pipeline import needs
from puzzledsl.pipeline.digests import digest_of, meaning
from puzzledsl.pipeline.healing import importance
from puzzledsl.pipeline.planning.flop import child_bytes, shape_of
from puzzledsl.pipeline.task import DeclaredTask, Key, Work
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import export_plan


class Export(DeclaredTask[nodes.Export]):
    """Copy or convert a child, with what evaluations measured of it in its card."""

    stage, after, kind = "export", "eval", "export"
    words = {"export": "the declaration", "quality": "what was measured of the child"}

    @classmethod
    def rests_on(cls, program: nodes.Program, name: str) -> Iterable[str]:
        return name, *evaluations_of(program, program.exports[name].of)

    def needs(self) -> tuple[Key, ...]:
        of = self.declaration.of
        cards = (("eval", evaluation) for evaluation in evaluations_of(self.program, of))
        return needs.child(self.program, of), *cards

    def requires(self) -> tuple[Key, ...]:
        """The child alone: without an evaluation, its card has no figures of it."""
        return (needs.child(self.program, self.declaration.of),)

    def inputs(self) -> dict[str, str]:
        from puzzledsl.pipeline.text.card import quality_of

        quality = quality_of(self.ctx, self.declaration.of)
        return {
            "export": meaning(self.declaration),
            "child": self._child(),
            **({"quality": digest_of(quality)} if quality else {}),
        }

    def _child(self) -> str:
        return self.ctx.made(*needs.child(self.program, self.declaration.of), "the child")

    def work(self) -> Work:
        return Work(written_bytes=child_bytes(self.ctx, self.space))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        return [export_plan(self.name, shape_of(self.program, self.space), device)]

    def run(self) -> list[Path]:
        from puzzledsl.child.checkpoint.write import refuse_to_overwrite
        from puzzledsl.export.write import write_export
        from puzzledsl.pipeline.process.copying import clear_leftovers, copy_directory
        from puzzledsl.pipeline.text.card import add_quality, quality_of

        declared = self.declaration
        self._child()
        child, target = self.ctx.build.model(declared.of), self.ctx.base / declared.path
        clear_leftovers(target)
        if declared.runtime == "transformers" and declared.dtype is None:
            refuse_to_overwrite(target)
            copy_directory(child, target)
        else:
            write_export(
                child,
                target,
                declared.format,
                declared.runtime,
                declared.dtype,
                name=self.name,
                progress=self.ctx.progress,
                importance=importance(self.ctx, self.space, child) if declared.dtype in RECIPES else None,
            )
        add_quality(target, quality_of(self.ctx, declared.of))
        return [target]
