"""The tasks that make what searches read: times on this machine, pieces, and scores."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.files import matching, write_text
from puzzledsl.base.process import cpu_name, usable_cores
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import Run, runs_to_drop
from puzzledsl.ir.runtimes import engine_of
from puzzledsl.pipeline import estimates, inputs
from puzzledsl.pipeline.context import Key, digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.estimates import Work, token_flop
from puzzledsl.pipeline.task import DeclaredTask
from puzzledsl.plan.memory import stages
from puzzledsl.plan.memory.bld import bld_stages, weights_of
from puzzledsl.plan.memory.stage_plan import Device, StagePlan

FORWARDS = 30.0
"""Work of timing a scenario in PyTorch, in forwards of the parent (a prefill with a few decode steps)."""
ENGINE_FORWARDS = 10.0
"""Work of timing one model in an engine, with the parent beside it, in the same unit."""
MIXTURES = 9
"""Models that an engine times in addition to one for each alternative."""


class Measure(DeclaredTask[nodes.Space]):
    """Time every distinct alternative of a space in the scenarios on `measured(...)` hardware."""

    stage, kind = "measure", "space"
    by_space = True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Space]:
        return {name: space for name, space in program.spaces.items() if space.used_by is None}

    def exists(self) -> bool:
        return bool(inputs.measured_scenarios(self.program))

    @property
    def _scenarios(self) -> list[nodes.Scenario]:
        return [self.program.scenarios[name] for name in inputs.measured_scenarios(self.program)]

    def inputs(self) -> dict[str, str]:
        hardware = [self.program.hardware[scenario.hardware] for scenario in self._scenarios]
        timed = [
            [scenario.name for scenario in self._scenarios],
            [meaning(scenario, ["traffic"]) for scenario in self._scenarios],
            [*map(_measured_on, hardware)],
        ]
        attention, ffn, ends = self._alternatives()
        return {
            **_engines(hardware),
            "alternatives": digest_of([str(self.shape.layers), *sorted([*attention, *ffn]), *ends]),
            "scenarios": digest_of(timed),
            "parent": self.parent_digest,
        }

    def work(self) -> Work:
        models = MIXTURES + sum(map(len, self._alternatives()))
        found = Work()
        for scenario in self._scenarios:
            here = estimates.timed_work(self.program, self.shape, [scenario])
            if engine_of(self.program.hardware[scenario.hardware]) is None:
                found += here * FORWARDS
            else:
                found += here * (ENGINE_FORWARDS * models) + Work(loads=models)
        return found

    def _alternatives(self) -> tuple[list[str], list[str], list[str]]:
        """Return the distinct attentions, FFNs and ends as JSON."""
        space = self.declaration
        attention = {a.model_dump_json() for c in space.layers for a in c.attention}
        ffn = {"ffn" + f.model_dump_json() for c in space.layers for f in c.ffn}
        return sorted(attention), sorted(ffn), [] if space.ends is None else [space.ends.model_dump_json()]

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        layers = zip(self.shape.each, self.declaration.layers, strict=True)
        found = {(a, id(own)): (a, own) for own, choice in layers for a in (*choice.attention, *choice.ffn)}
        flop = self.work().flop
        return [stages.measuring_plan(self.name, self.shape, device, flop, found.values(), self._scenarios)]

    def run(self) -> list[Path]:
        from puzzledsl.costs.csv_table import csv_of
        from puzzledsl.measure.cells import measure_costs
        from puzzledsl.serving.clock import ServingClock

        ctx, space, build = self.ctx, self.name, self.ctx.build
        given = (ctx.program, space, self.parent, self.work_folder, ctx.progress, ctx.executor, ServingClock)
        table = measure_costs(*given)
        write_text(build.measured_csv(space), csv_of(table))
        return [*self.keep(build.measured_costs(space), table), build.measured_csv(space)]


def _measured_on(hardware: nodes.Hardware) -> str:
    """Digest of a hardware without its price and power, which change no time."""
    spec = hardware.spec
    if isinstance(spec, nodes.MeasuredHardware):
        spec = spec.model_copy(update={"usd_per_s": None, "watts": None})
    return meaning(hardware.model_copy(update={"spec": spec}))


def _engines(hardware: Iterable[nodes.Hardware]) -> dict[str, str]:
    """Return what times in an engine depend on besides: its build, processor and threads; empty if only PyTorch is timed."""
    from puzzledsl.export.engines.ask import build_of

    builds, threads = list[str](), list[str]()
    for each in hardware:
        if (engine := engine_of(each)) is not None and isinstance(each.spec, nodes.MeasuredHardware):
            builds.append(f"{engine.name} {build_of(engine.name)}")
            threads.append(str(each.spec.threads or usable_cores()))
    if not builds:
        return {}
    return {"engine": digest_of(builds), "processor": cpu_name(), "threads": digest_of(threads)}


PASSES_A_STEP = 1.5  # layer passes of a piece's step: forward, backward and optimiser, half a layer each


class Bld(DeclaredTask[nodes.Bld]):
    """Initialise the pieces from the parent and train each against the parent's sub-block."""

    stage, kind = "bld", "bld"
    by_space, reads_text, sets_pace = True, True, True

    def needs(self) -> tuple[Key, ...]:
        return inputs.narrowing(self.ctx, self.space)

    def inputs(self) -> dict[str, str]:
        return {
            "jobs": digest_of([job.id for job in inputs.pieces_of(self.ctx, self.name)]),
            "parent": self.parent_digest,
            **inputs.data_inputs(self.ctx, self.declaration.data),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.declaration.data,)

    def budgets(self) -> Iterable[tuple[str | None, int, int]]:
        from puzzledsl.data.counts import Budget

        if not inputs.pieces_of(self.ctx, self.name):
            return ()
        budget = Budget.of(self.declaration)
        return ((self.declaration.data, budget.blocks * budget.context, budget.context),)

    def work(self) -> Work:
        """Return bytes and layer calls alone: the memory plans estimate the time of the arithmetic."""
        declared, shape, jobs = self.declaration, self.shape, inputs.jobs_of(self.ctx, self.name)
        steps = declared.tokens // (declared.context * declared.batch)
        passes = (steps + declared.calibration_tokens // declared.context) * shape.layers
        parts = ((part, shape.at(job.layer)) for job in jobs for part in (job.attention, job.ffn))
        params = sum(part.params(own) for part, own in parts if part is not None)
        size = estimates.weight_bytes(self.ctx, self.space)
        calls = passes + PASSES_A_STEP * steps * len(jobs)
        return Work(0.0, params * size, 2 * declared.tokens * shape.hidden * size, layer_calls=calls)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        jobs = inputs.jobs_of(self.ctx, self.name)
        return bld_stages(self.name, self.shape, jobs, device, disk_bytes=disk_bytes)

    def run(self) -> list[Path]:
        from puzzledsl.pieces.store.library import Library, StageInputs
        from puzzledsl.pieces.train.run import run_bld

        ctx, jobs, library = self.ctx, inputs.pieces_of(self.ctx, self.name), Library(self.ctx.build.library)
        given = (ctx.program, self.name, self.parent, ctx.base, library, jobs, self.work_folder)
        run_bld(StageInputs(*given, ctx.progress, ctx.executor))
        made = {job.id for job in jobs}
        return [ctx.build.library / piece.file for piece in library.pieces() if piece.job.id in made]

    def damaged(self) -> tuple[str, ...]:
        from puzzledsl.pieces.store.index import Index

        index = self.ctx.build.library / "index.jsonl"
        whole = {job.id for job in inputs.pieces_of(self.ctx, self.name)} <= Index(index).read().keys()
        return () if whole else (f"library/{index.name}",)


SCORING = "2"
"""Version of what a measured table holds besides scores; raised when that changes, so that tables made before are made again."""
HEALING = 4.0  # work of healing a layer with parent, child and Gram matrices, in forward passes
LAYERS_HEALED = 1.5  # layers healed after a replacement: the next one, and the unchanged half of its own


class Score(DeclaredTask[nodes.Score]):
    """Replace one block at a time and compare with the parent."""

    stage, kind = "score", "score"
    by_space, reads_text = True, True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Score]:
        return {n: score for n, score in program.scores.items() if isinstance(score.method, nodes.ReplaceOne)}

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
        ctx, method, parent = self.ctx, self.method, self.parent_digest
        return {
            "score": meaning(method),
            "scoring": SCORING,
            "space": meaning(self.program.spaces[self.space]),
            "pieces": ctx.made("bld", self.bld, "the pieces"),
            "parent": parent,
            **({"tasks": files_fingerprint([method.tasks], ctx.base)} if method.tasks else {}),
            **inputs.data_inputs(ctx, method.data),
            **({"healing": inputs.healing_of_scores(ctx, [self.bld])} if method.healed else {}),
        }

    def texts(self) -> Iterable[str | None]:
        return (self.method.data,)

    def items(self) -> Iterable[tuple[str, nodes.Where]]:
        return [(self.method.tasks, self.declaration.where)] if self.method.tasks else []

    def work(self) -> Work:
        """Return the work of scoring: each replacement runs the head and the layers above it, half of all on average."""
        method, shape, tokens = self.method, self.shape, self._tokens
        layers = self.program.spaces[self.space].layers
        count = sum(len(layer.attention) + len(layer.ffn) for layer in layers)
        if method.unit == "block":
            count = sum(len(layer.attention) * len(layer.ffn) for layer in layers)
        body, head, dropped = token_flop(shape, head=False), estimates.head_flop(shape), self._runs
        replaced = count * tokens * (body / 2 + head)
        runs = tokens * sum(body * (1 - (first + length) / shape.layers) + head for first, length in dropped)
        healed = HEALING * LAYERS_HEALED * (body / shape.layers) * method.healed * (count + len(dropped))
        return Work(replaced + runs + healed, runs=len(dropped))

    @property
    def _tokens(self) -> int:
        """The number of tokens that are scored; for tasks, an estimate by the size of their files."""
        if self.method.tasks is None:
            return self.method.samples
        files = matching(self.ctx.base, self.method.tasks)
        return int(sum(path.stat().st_size for path in files) / estimates.BYTES_A_TOKEN)

    @property
    def _runs(self) -> list[Run]:
        """The runs of consecutive layers that are dropped together and scored, as (first layer, number of layers)."""
        return runs_to_drop(self.program.spaces[self.space].layers, self.shape, self.method.runs)

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        widest = max(map(weights_of, inputs.jobs_of(self.ctx, self.bld)), default=0)
        streams = stages.STREAMS + max((length for _, length in self._runs), default=0)
        more, given = {"piece": widest * device.number_bytes}, (self.shape, device, self.work().flop)
        name, tokens = self.name, self._tokens
        return [stages.forward_plan("score", name, *given, tokens=tokens, streams=streams, more=more)]

    def run(self) -> list[Path]:
        from puzzledsl.pieces.store.library import Library
        from puzzledsl.scoring.run import ScoreInputs, run_score

        ctx, work = self.ctx, self.work_folder
        ctx.made("bld", self.bld, "the pieces")
        library, jobs = Library(ctx.build.library), inputs.pieces_of(ctx, self.bld)
        given = (ctx.program, self.name, self.parent, ctx.base, library, jobs, work, ctx.progress)
        kept = self.keep(ctx.build.scores(self.name), run_score(ScoreInputs(*given, executor=ctx.executor)))
        shutil.rmtree(work, ignore_errors=True)
        return kept
