"""The tasks of children: checkpoints, global knowledge distillation, figures beside the parent, exports, and the report."""

import importlib.util
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import appearing
from puzzledsl.ir import facts, nodes, references
from puzzledsl.ir.base import span_of
from puzzledsl.ir.measured_engines import LADDER, RECIPES
from puzzledsl.ir.runtimes import has_ladder, served_type
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.pipeline import estimates, inputs
from puzzledsl.pipeline.compile import COMPILE
from puzzledsl.pipeline.context import Key, Unfinished, digest_of, failures, files_fingerprint, meaning
from puzzledsl.pipeline.estimates import Work
from puzzledsl.pipeline.task import DeclaredTask, Task
from puzzledsl.plan.memory import stages
from puzzledsl.plan.memory.stage_plan import FLOAT32_BYTES, Device, StagePlan


class Realise(DeclaredTask[nodes.Search]):
    """Assemble the child that was chosen, and heal it."""

    stage, kind = "realise", "search"

    def exists(self) -> bool:
        return inputs.has_child(self.ctx, self.name)

    def needs(self) -> tuple[Key, ...]:
        refined = [] if self.declaration.refine is None else [("refine", self.name)]
        return ("solve", self.name), *refined, *inputs.piece_tasks(self.program, self.space)

    def inputs(self) -> dict[str, str]:
        return inputs.healed_from(self.ctx, self.name, inputs.chosen_child(self.ctx, self.name).layers)

    def work(self) -> Work:
        """Return the work of running parent and child on the healing tokens and fitting maps; a shorter text takes less."""
        shape, tokens = self.shape, self._healing_tokens()
        flop = estimates.healing_flop(shape, tokens, self._layers_healed())
        return Work(flop, estimates.child_bytes(self.ctx, self.space))

    def _layers_healed(self) -> float:
        """The number of layers from the child's first change to the top; a share of all while the child is not known."""
        count = self.shape.layers
        try:
            layers = inputs.child_so_far(self.ctx, self.name).of_layers
        except DiagnosticError:
            return estimates.HEALED_SHARE * count
        kept = takewhile(lambda layer: (layer.attention, layer.ffn) == ("parent", "parent"), layers)
        return count - sum(1 for _ in kept)

    def _healing_tokens(self) -> int:
        """The tokens that this task heals the child on; 0 if children are not healed, or if `refine` heals it for judges."""
        return 0 if references.judged_by(self.declaration) else self.heal_tokens

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape = self.shape
        return [stages.realise_plan(self.name, shape, self._healing_tokens(), device, self.work().flop)]

    def run(self) -> list[Path]:
        from puzzledsl.child.checkpoint.write import realise
        from puzzledsl.child.definition import model_definition
        from puzzledsl.child.healing.walk import HealingInputs, healed_weights
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.pipeline.text.child_text import model_card

        ctx, search = self.ctx, self.name
        card = model_card(ctx, search, inputs.best_solution(ctx, search))
        jobs = tuple(self.jobs)
        best = inputs.chosen_child(ctx, search)
        definition = model_definition(ctx.program, search, best, jobs)
        library, output = Library(ctx.build.library.resolve()), ctx.build.model(search)
        parent = self.parent
        work = inputs.healing_work(ctx, search, best.layers)
        healed = {}
        if ctx.heal:
            given = (ctx.program, search, parent, ctx.base, library, jobs, work, ctx.progress, ctx.executor)
            healed = healed_weights(HealingInputs(*given, definition=definition))
        realise(definition, parent, library.load, output, card, healed=healed)
        for unfinished in work.parent.glob(f"{search}-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return [output]


OPTIMISER_COPIES = 3  # weights and two moments, float32


class Uptrain(DeclaredTask[nodes.Uptrain]):
    """Train a realised child against the parent."""

    stage, kind = "uptrain", "uptrain"
    reads_text, sets_pace = True, True

    def needs(self) -> tuple[Key, ...]:
        return (("realise", self.declaration.search),)

    def inputs(self) -> dict[str, str]:
        return {
            "uptrain": meaning(self.declaration),
            "child": self.ctx.made("realise", self.declaration.search, "the child"),
            "parent": self.parent_digest,
            **inputs.data_inputs(self.ctx, self.declaration.data),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data,)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.uptrain.run import blocks_wanted

        declared = self.declaration
        return ((declared.data, blocks_wanted(declared) * declared.context, declared.context),)

    def work(self) -> Work:
        shape = self.shape
        flop = self.declaration.tokens * (1 + estimates.TRAINING) * estimates.token_flop(shape, head=True)
        state = facts.total_params(shape) * 4 * (OPTIMISER_COPIES + 1)
        return Work(flop, estimates.child_bytes(self.ctx, self.space), state)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape = self.shape
        sizes = stages.UptrainSizes(self.declaration, shape, shape)
        return [stages.uptrain_plan(sizes, device, name=self.name, flop=self.work().flop)[0]]

    def run(self) -> list[Path]:
        from puzzledsl.uptrain.ranks import announce, ranks_of
        from puzzledsl.uptrain.run import UptrainInputs, run_uptrain

        ctx, name, search = self.ctx, self.name, self.declaration.search
        ranks = ranks_of()
        if ranks.leads:
            announce(ranks, name)
        ctx.made("realise", search, "the child")
        parent, work = self.parent, self.work_folder
        child, output = ctx.build.model(search), ctx.build.model(name)
        given = (ctx.program, name, parent, child, output, ctx.base, work, ctx.build.tokens, ctx.progress)
        run_uptrain(UptrainInputs(*given, ranks))
        return [output]


TIMED_ALONE, TIMED_BESIDE = 6.0, 12.0  # rounds of the parent, and of a child beside it
ANSWER_STEPS = 64  # decode steps of the prompts' answers
FIGURES = "2"
"""Version of what an evaluation holds; raised when that changes, so that evaluations made before are put together again."""


class Eval(DeclaredTask[nodes.Eval]):
    """Measure the parent and children: size, speed, KL, perplexity, tasks."""

    stage, kind = "eval", "eval"
    reads_text = True

    def needs(self) -> tuple[Key, ...]:
        """Return the tasks that make the children it must have, and those that the space's other searches have."""
        wanted = references.children_wanted(self.program, self.name)
        evaluated = references.children_evaluated(self.program, self.name)
        models = [child for child in evaluated if child in wanted or inputs.has_child(self.ctx, child)]
        return tuple(inputs.child_task(self.program, model) for model in models)

    def requires(self) -> tuple[Key, ...]:
        """Return the tasks that make the children without which there is no evaluation."""
        wanted = references.children_wanted(self.program, self.name)
        return tuple(inputs.child_task(self.program, child) for child in wanted)

    def inputs(self) -> dict[str, str]:
        ctx, declaration, scenarios = self.ctx, self.declaration, self.program.scenarios
        models, _ = inputs.evaluated_models(ctx, self.name)
        self._require_children()
        timed = {name: meaning(scenarios[name]) for name in inputs.measured_scenarios(self.program)}
        asked = declaration.prompts
        return {
            "eval": digest_of([FIGURES, *MEASURES, meaning(declaration, without=("full", "dtype"))]),
            **({"full": digest_of(declaration.full)} if declaration.full else {}),
            **({"dtype": declaration.dtype} if declaration.dtype else {}),
            "models": digest_of({model: self.child_made(model) for model in models}),
            "scenarios": digest_of(timed),
            "tasks": files_fingerprint(declaration.tasks, ctx.base),
            **({"prompts": files_fingerprint([asked.path], ctx.base)} if asked and asked.path else {}),
            "parent": self.parent_digest,
            **inputs.data_inputs(ctx, *self.texts()),
        }

    def _require_children(self) -> None:
        for child in (self.declaration.of, *self.declaration.full):
            self.child_made(child)

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data, *self.declaration.more_data)

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        return [(path, self.declaration.where) for path in self.declaration.tasks]

    def lacks(self) -> Iterable[Diagnostic]:
        from puzzledsl.data.errors import PromptsUnreadable
        from puzzledsl.evaluate.errors import NoHarness

        span, given = span_of(self.declaration.where), self.declaration.prompts
        if self.declaration.lm_eval and importlib.util.find_spec("lm_eval") is None:
            yield NoHarness(span)
        if given and given.path and not (self.ctx.base / given.path).is_file():
            yield PromptsUnreadable(span, file=given.path, reason="no such file")

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        tokens = self.declaration.tokens
        return [(name, tokens, max(2, min(stages.BLOCK_TOKENS, tokens))) for name in self.texts()]

    def work(self) -> Work:
        """Return the work of KL for all models and ladder files, and of tasks and times for the parent and children in full."""
        program, shape = self.program, self.shape
        ladder = self._has_ladder()
        models = 1 + len(references.children_evaluated(program, self.name)) + (len(LADDER) if ladder else 0)
        full = len(references.children_in_full(program, self.name))
        forward = estimates.token_flop(shape, head=True)
        items = estimates.item_tokens(self.ctx.base, self.declaration.tasks, self.declaration.items)
        timed = [program.scenarios[name] for name in inputs.measured_scenarios(program)]
        times = estimates.timed_work(program, shape, timed)
        tokens = self.declaration.tokens * (1 + len(self.declaration.more_data))
        read = Work(models * tokens * forward + (1 + full + ladder) * items * forward)
        answers = estimates.decoding_work(shape, ANSWER_STEPS, FLOAT32_BYTES) * (1 + full)
        return read + answers + times * (TIMED_ALONE + TIMED_BESIDE * full)

    def _has_ladder(self) -> bool:
        """Return True if files that an engine's own quantiser makes of the parent are measured beside the child."""
        return self.declaration.ladder and any(map(has_ladder, self.program.hardware.values()))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape, tokens = self.shape, self.declaration.tokens
        reads, alone = 2 * max(1, tokens // stages.BLOCK_TOKENS), replace(device, count=1)
        given = shape, alone, self.work().flop
        return [stages.forward_plan("eval", self.name, *given, tokens=tokens, models=2, reads=reads)]

    def run(self) -> list[Path]:
        from puzzledsl.evaluate.run import EvalInputs, PartlyEvaluated, run_eval
        from puzzledsl.serving.ladder import LadderMeter
        from puzzledsl.serving.load import time_in_engine

        ctx, name = self.ctx, self.name
        self._require_children()
        parent, work = self.parent, self.work_folder
        given = (*inputs.evaluated_models(ctx, name), parent, ctx.base, ctx.build.tokens, work, ctx.progress)
        output = ctx.build.evaluation(name)
        weighed = partial(inputs.importance, ctx, self.space, parent)
        meter = LadderMeter(self.declaration.of, parent.resolve(), weighed, ctx.progress)
        ladder = meter if self._has_ladder() else None
        more = (ctx.executor, time_in_engine, ladder, ctx.build.eval_units)
        wanted = EvalInputs(ctx.program, name, *given, *more)
        try:
            return self.keep(output, run_eval(wanted))
        except PartlyEvaluated as error:
            kept = self.keep(output, error.evaluation)
            raise Unfinished(*error.diagnostics, outputs=kept) from error


class Export(DeclaredTask[nodes.Export]):
    """Copy or convert a child, with what evaluations measured of it in its card."""

    stage, kind = "export", "export"

    def needs(self) -> tuple[Key, ...]:
        of = self.declaration.of
        cards = (("eval", evaluation) for evaluation in references.evaluations_of(self.program, of))
        return inputs.child_task(self.program, of), *cards

    def requires(self) -> tuple[Key, ...]:
        """The child alone: without an evaluation, its card has no figures of it."""
        return (inputs.child_task(self.program, self.declaration.of),)

    def inputs(self) -> dict[str, str]:
        from puzzledsl.pipeline.text.child_text import quality_of

        quality = quality_of(self.ctx, self.declaration.of)
        return {
            "export": meaning(self.declaration),
            "child": self.child_made(self.declaration.of),
            **({"type": self._usual} if self._usual else {}),
            **({"quality": digest_of(quality)} if quality else {}),
        }

    @property
    def _usual(self) -> str | None:
        """The number type of a GGUF file whose export names none; None for every other export."""
        declared = self.declaration
        named = declared.format != "gguf" or declared.dtype is not None
        return None if named else served_type(self.program, self.space)

    def work(self) -> Work:
        return Work(written_bytes=estimates.child_bytes(self.ctx, self.space))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        return [stages.realise_plan(self.name, self.shape, 0, device, 0.0, stage="export")]

    def run(self) -> list[Path]:
        from puzzledsl.child.checkpoint.write import refuse_to_overwrite
        from puzzledsl.export.write import write_export
        from puzzledsl.pipeline.text.child_text import add_quality, quality_of

        declared = self.declaration
        self.child_made(declared.of)
        child, target = self.ctx.build.model(declared.of), self.ctx.base / declared.path
        if declared.runtime == "transformers" and declared.dtype is None:
            refuse_to_overwrite(target)
            with appearing(target) as directory:
                shutil.copytree(child, directory, dirs_exist_ok=True)
        else:
            weighed = None
            if declared.dtype in RECIPES:
                weighed = inputs.importance(self.ctx, self.space, child)
            given = (child, target, declared.format, declared.runtime, declared.dtype)
            progress, usual = self.ctx.progress, self._usual
            write_export(*given, name=self.name, progress=progress, importance=weighed, usual=usual)
        add_quality(target, quality_of(self.ctx, declared.of))
        return [target]


class Report(Task):
    """Write report.html."""

    stage, kind = "report", "report"

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, object]:
        return {"": program}

    def follows(self, undone: Sequence[Key]) -> tuple[Key, ...]:
        return tuple(undone)

    def inputs(self) -> dict[str, str]:
        made = {s.title: s.digest() for s in self.ctx.stamps.all() if s.stage not in (self.stage, COMPILE)}
        failed = {f"failed {f.title}": f.digest() for f in failures(self.ctx.build) if f.stage != self.stage}
        return {"source": digest_of(self.ctx.source), **made, **failed}

    def run(self) -> list[Path]:
        from puzzledsl.report.write import write_report

        return [write_report(self.program, self.ctx.build, self.ctx.source)]
