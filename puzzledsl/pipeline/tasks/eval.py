"""The tasks `uptrain` and `eval`: global knowledge distillation of a child, and figures of parent and children."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.base.files import write_text
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.measured_engines import LADDER
from puzzledsl.ir.references import children_evaluated, children_in_full, children_wanted
from puzzledsl.ir.runtimes import has_ladder
from puzzledsl.pipeline import opening as needs
from puzzledsl.pipeline.inputs import data_inputs, evaluated_models, importance, measured_scenarios
from puzzledsl.pipeline.stamps import Unfinished, digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.task import (
    TRAINING,
    DeclaredTask,
    Key,
    Work,
    child_bytes,
    decoding_work,
    item_tokens,
    only_text,
    shape_of,
    timed_work,
    token_flop,
    weight_bytes_of,
)
from puzzledsl.plan.memory.stage_plan import FLOAT32_BYTES, Device, StagePlan
from puzzledsl.plan.memory.stages import evaluating_plan
from puzzledsl.plan.memory.uptrain import UptrainSizes, uptrain_plan

TIMED_ALONE, TIMED_BESIDE = 6.0, 12.0  # rounds of the parent, and of a child beside it
ANSWER_STEPS = 64  # decode steps of the prompts' answers


class Eval(DeclaredTask[nodes.Eval]):
    """Measure the parent and children: size, speed, KL, perplexity, tasks."""

    stage, after, kind = "eval", "uptrain", "eval"
    words = {
        "eval": "the declaration",
        "full": "the children in full",
        "dtype": "the dtype of tasks",
        "models": "the children",
        "prompts": "the prompts",
    }
    reads_text = True

    def needs(self) -> tuple[Key, ...]:
        """The children that it must have, and those of the space's other searches that have one."""
        wanted = children_wanted(self.program, self.name)
        evaluated = children_evaluated(self.program, self.name)
        models = [child for child in evaluated if child in wanted or needs.has_child(self.ctx, child)]
        return tuple(needs.child(self.program, model) for model in models)

    def requires(self) -> tuple[Key, ...]:
        """The children that it must have."""
        return tuple(needs.child(self.program, model) for model in children_wanted(self.program, self.name))

    def inputs(self) -> dict[str, str]:
        ctx, declaration, scenarios = self.ctx, self.declaration, self.program.scenarios
        models, _ = evaluated_models(ctx, self.name)
        self._require_children()
        timed = {name: meaning(scenarios[name]) for name in measured_scenarios(self.program)}
        data = declaration.data or only_text(self.program)
        return {
            "eval": meaning(declaration, without=("full", "dtype")),
            **({"full": digest_of(declaration.full)} if declaration.full else {}),
            **({"dtype": declaration.dtype} if declaration.dtype else {}),
            "models": digest_of({model: self._made(model) for model in models}),
            "scenarios": digest_of(timed),
            "tasks": files_fingerprint(declaration.tasks, ctx.base),
            **self._prompts(),
            "parent": ctx.fingerprint(self.space, "eval"),
            **data_inputs(ctx, data, *declaration.more_data),
        }

    def _prompts(self) -> dict[str, str]:
        given = self.declaration.prompts
        return {"prompts": files_fingerprint([given.path], self.ctx.base)} if given and given.path else {}

    def _made(self, model: str) -> str:
        return self.ctx.made(*needs.child(self.program, model), "the child")

    def _require_children(self) -> None:
        for child in (self.declaration.of, *self.declaration.full):
            self._made(child)

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
        from puzzledsl.evaluate.plan import BLOCK_TOKENS

        tokens = self.declaration.tokens
        names = (self.declaration.data or only_text(self.program), *self.declaration.more_data)
        return [(name, tokens, max(2, min(BLOCK_TOKENS, tokens))) for name in names]

    def work(self) -> Work:
        """KL of every model and file of the ladder; tasks of the parent, of children in full and of two files; times."""
        program, shape = self.program, shape_of(self.program, self.space)
        ladder = self._has_ladder()
        models = 1 + len(children_evaluated(program, self.name)) + (len(LADDER) if ladder else 0)
        full = len(children_in_full(program, self.name))
        forward, items = (
            token_flop(shape, head=True),
            item_tokens(self.ctx.base, self.declaration.tasks, self.declaration.items),
        )
        timed = [program.scenarios[name] for name in measured_scenarios(program)]
        bytes_of = [weight_bytes_of(program, scenario) for scenario in timed]
        times = sum((timed_work(shape, *each) for each in zip(timed, bytes_of, strict=True)), Work())
        tokens = self.declaration.tokens * (1 + len(self.declaration.more_data))
        read = Work(models * tokens * forward + (1 + full + (2 if ladder else 0)) * items * forward)
        answers = decoding_work(shape, ANSWER_STEPS, FLOAT32_BYTES) * (1 + full)
        return read + answers + times * (TIMED_ALONE + TIMED_BESIDE * full)

    def _has_ladder(self) -> bool:
        """Return True where files of the parent are measured beside the child."""
        return self.declaration.ladder and any(map(has_ladder, self.program.hardware.values()))

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape, tokens = shape_of(self.program, self.space), self.declaration.tokens
        return [evaluating_plan(self.name, shape, tokens, device, self.work().flop)]

    def run(self) -> list[Path]:
        from puzzledsl.evaluate.run import EvalInputs, PartlyEvaluated, run_eval
        from puzzledsl.serving.ladder import LadderMeter
        from puzzledsl.serving.load import time_in_engine

        ctx, name = self.ctx, self.name
        self._require_children()
        parent, work = ctx.parent_directory(self.space, "eval"), ctx.build.work("eval", name)
        given = (*evaluated_models(ctx, name), parent, ctx.base, ctx.build.tokens, work, ctx.progress)
        output = ctx.build.evaluation(name)
        meter = LadderMeter(
            self.declaration.of, parent.resolve(), lambda: importance(ctx, self.space, parent), ctx.progress
        )
        ladder = meter if self._has_ladder() else None
        inputs = EvalInputs(
            ctx.program, name, *given, ctx.executor, time_in_engine, ladder, ctx.build.eval_units
        )
        try:
            write_text(output, run_eval(inputs).canonical_json())
        except PartlyEvaluated as error:
            write_text(output, error.evaluation.canonical_json())
            raise Unfinished(*error.diagnostics, outputs=[output]) from error
        return [output]


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
            **data_inputs(self.ctx, self.declaration.data or only_text(self.program)),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data,)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.uptrain.run import blocks_wanted

        declared = self.declaration
        data, context = declared.data or only_text(self.program), declared.context
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
