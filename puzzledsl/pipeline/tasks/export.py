"""The tasks `realise`, `export` and `report`: checkpoints of children, and the page that shows the build directory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of
from puzzledsl.ir import nodes
from puzzledsl.ir.measured_engines import RECIPES
from puzzledsl.ir.references import evaluations_of, judged_by
from puzzledsl.pipeline import opening as needs
from puzzledsl.pipeline.compile import COMPILE
from puzzledsl.pipeline.inputs import (
    best_solution,
    child_so_far,
    chosen_child,
    healed_from,
    healing_work,
    importance,
    pieces_of,
)
from puzzledsl.pipeline.stamps import digest_of, failures, meaning
from puzzledsl.pipeline.task import (
    HEALED_SHARE,
    DeclaredTask,
    Key,
    Task,
    Touched,
    Work,
    child_bytes,
    healing_flop,
    shape_of,
)
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import export_plan, realise_plan


class Realise(DeclaredTask[nodes.Search]):
    """Assemble the child that was chosen, and heal it."""

    stage, after, kind = "realise", "refine", "search"

    @classmethod
    def rests_on(cls, program: nodes.Program, name: str) -> Iterable[str]:
        blds = needs.blds_of(program, program.searches[name].space)
        return (name, *blds) if needs.has_pieces(program, name) else ()

    @property
    def _blds(self) -> list[str]:
        return needs.blds_of(self.program, self.space)

    def exists(self) -> bool:
        return needs.has_child(self.ctx, self.name)

    def needs(self) -> tuple[Key, ...]:
        refined, pieces = needs.refined(self.program, self.name), needs.pieces(self.program, self.space)
        return ("solve", self.name), *refined, *pieces

    def inputs(self) -> dict[str, str]:
        return healed_from(self.ctx, self.name, chosen_child(self.ctx, self.name).layers)

    def work(self) -> Work:
        """Parent and child run the tokens, and the child's last maps are fitted to them. A short text has fewer."""
        shape, tokens = shape_of(self.program, self.space), self._healing_tokens()
        return Work(healing_flop(shape, tokens, self._layers_healed()), child_bytes(self.ctx, self.space))

    def _layers_healed(self) -> float:
        """The layers from the child's first change on; a share of all while the child is not known."""
        count = shape_of(self.program, self.space).layers
        try:
            layers = child_so_far(self.ctx, self.name).of_layers
        except DiagnosticError:
            return HEALED_SHARE * count
        kept = takewhile(lambda layer: (layer.attention, layer.ffn) == ("parent", "parent"), layers)
        return count - sum(1 for _ in kept)

    def _healing_tokens(self) -> int:
        """The tokens that the child is healed on; 0 if it is not healed, or was to be judged."""
        tokens = max((self.program.blds[bld].heal_tokens for bld in self._blds), default=0)
        return tokens if self.ctx.heal and not judged_by(self.program.searches[self.name]) else 0

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape = shape_of(self.program, self.space)
        return [realise_plan(self.name, shape, self._healing_tokens(), device, self.work().flop)]

    def run(self) -> list[Path]:
        from puzzledsl.child.checkpoint.write import realise
        from puzzledsl.child.definition import model_definition
        from puzzledsl.child.healing.run import HealingInputs, healed_weights
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.pipeline.text.card import model_card

        ctx, search = self.ctx, self.name
        card = model_card(ctx, search, best_solution(ctx, search))
        jobs = tuple(job for bld in self._blds for job in pieces_of(ctx, bld))
        best = chosen_child(ctx, search)
        definition = model_definition(ctx.program, search, best, jobs)
        pieces, output = Library(ctx.build.library.resolve()).load, ctx.build.model(search)
        parent = ctx.parent_directory(self.space, "realise")
        work = healing_work(ctx, search, best.layers)
        healed = {}
        if ctx.heal:
            given = (ctx.program, definition, jobs, parent, ctx.base, pieces, ctx.build.tokens, work)
            healed = healed_weights(HealingInputs(*given, ctx.progress, ctx.executor))
        realise(definition, parent, pieces, output, card, healed=healed)
        for unfinished in work.parent.glob(f"{search}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]


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
        from puzzledsl.pipeline.process.locks import clear_leftovers, copy_directory
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


class Report(Task):
    """Write report.html."""

    stage, after, kind = "report", "export", "report"
    words = {"source": "the program's text"}

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, object]:
        return {"": program}

    @classmethod
    def runs_again(cls, program: nodes.Program, name: str, touched: Touched) -> bool:
        """Return True: the page shows the program's text and all that is made from it."""
        return True

    def follows(self, undone: Sequence[Key]) -> tuple[Key, ...]:
        return tuple(undone)

    def inputs(self) -> dict[str, str]:
        made = {s.title: s.digest() for s in self.ctx.stamps.all() if s.stage not in (self.stage, COMPILE)}
        failed = {f"failed {f.title}": f.digest() for f in failures(self.ctx.build) if f.stage != self.stage}
        engines = sorted(self.ctx.build.engines("").parent.glob("*.json"))
        tried = {f"engines {path.stem}": sha256_of(path) for path in engines}
        return {"source": digest_of(self.ctx.source), **made, **failed, **tried}

    def run(self) -> list[Path]:
        from puzzledsl.report.write import write_report

        return [write_report(self.program, self.ctx.build, self.ctx.source)]
