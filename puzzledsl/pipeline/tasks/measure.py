"""The tasks `measure` and `sample`: times of alternatives on this machine, and texts that parents write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.base.process import cpu_name
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import written_for
from puzzledsl.ir.runtimes import engine_of
from puzzledsl.pipeline.inputs import measured_scenarios
from puzzledsl.pipeline.stamps import digest_of, files_fingerprint, meaning
from puzzledsl.pipeline.task import (
    BYTES_A_TOKEN,
    DeclaredTask,
    Task,
    Work,
    shape_of,
    timed_work,
    token_flop,
    weight_bytes_of,
)
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import DECODING, MeasuringSizes, measuring_plan, sampling_plan

FORWARDS = (
    30.0  # of the parent, each a prefill with a few decode steps: as much as a scenario's rounds and checks
)


class Measure(DeclaredTask[nodes.Space]):
    """Time every distinct alternative of a space in the scenarios on `measured(...)` hardware."""

    stage, after, kind = "measure", "sample", "space"
    words = {"alternatives": "the alternatives", "engine": "the engine's build, the processor or its threads"}
    by_space = True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Space]:
        return {name: space for name, space in program.spaces.items() if space.used_by is None}

    @classmethod
    def rests_on(cls, program: nodes.Program, name: str) -> Iterable[str]:
        measured = measured_scenarios(program)
        return (name, *measured) if measured else ()

    def exists(self) -> bool:
        return bool(measured_scenarios(self.program))

    def inputs(self) -> dict[str, str]:
        wanted = measured_scenarios(self.program)
        scenarios = [self.program.scenarios[name] for name in wanted]
        hardware = [_measured_on(self.program.hardware[scenario.hardware]) for scenario in scenarios]
        engines = _engines(self.program.hardware[scenario.hardware] for scenario in scenarios)
        return {
            **({"engine": digest_of(engines)} if engines else {}),
            "alternatives": digest_of(_distinct_alternatives(self.program.spaces[self.name])),
            "scenarios": digest_of([wanted, [meaning(s, ["traffic"]) for s in scenarios], hardware]),
            "parent": self.ctx.fingerprint(self.name, "measure"),
        }

    def work(self) -> Work:
        shape = shape_of(self.program, self.name)
        wanted = [self.program.scenarios[name] for name in measured_scenarios(self.program)]
        each = (
            timed_work(shape, scenario, weight_bytes_of(self.program, scenario)) * FORWARDS
            for scenario in wanted
        )
        return sum(each, Work())

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        shape = shape_of(self.program, self.name)
        layers = zip(shape.each, self.program.spaces[self.name].layers, strict=True)
        found = {(a, id(own)): (a, own) for own, choice in layers for a in (*choice.attention, *choice.ffn)}
        scenarios = tuple(self.program.scenarios[name] for name in measured_scenarios(self.program))
        sizes = MeasuringSizes(shape, tuple(found.values()), scenarios)
        return [measuring_plan(self.name, sizes, device, self.work().flop)]

    def run(self) -> list[Path]:
        from puzzledsl.costs.csv_table import csv_of
        from puzzledsl.measure.cells import measure_costs
        from puzzledsl.serving.clock import ServingClock

        ctx, space = self.ctx, self.name
        parent, work = ctx.parent_directory(space, "measure"), ctx.build.work("measure", space)
        table = measure_costs(ctx.program, space, parent, work, ctx.progress, ctx.executor, ServingClock)
        output, for_others = ctx.build.measured_costs(space), ctx.build.measured_csv(space)
        write_text(output, table.canonical_json())
        write_text(for_others, csv_of(table))
        return [output, for_others]


def _measured_on(hardware: nodes.Hardware) -> str:
    """Digest of a hardware without its price and power, which change no time."""
    spec = hardware.spec
    if isinstance(spec, nodes.MeasuredHardware):
        spec = spec.model_copy(update={"usd_per_s": None, "watts": None})
    return meaning(hardware.model_copy(update={"spec": spec}))


def _engines(hardware: Iterable[nodes.Hardware]) -> list[str]:
    """Return what else times in an engine depend on; empty where PyTorch is timed."""
    from puzzledsl.export.engines.ask import build_of

    found = []
    for each in hardware:
        if (engine := engine_of(each)) is not None and isinstance(each.spec, nodes.MeasuredHardware):
            threads = each.spec.threads or len(os.sched_getaffinity(0))
            found.append(f"{engine.name} {build_of(engine.name)}, {cpu_name()}, {threads} threads")
    return found


def _distinct_alternatives(space: nodes.Space) -> list[str]:
    found = {a.model_dump_json() for c in space.layers for a in c.attention}
    found |= {"ffn" + f.model_dump_json() for c in space.layers for f in c.ffn}
    ends = [] if space.ends is None else [space.ends.model_dump_json()]
    return [str(len(space.layers)), *sorted(found), *ends]


METHOD = "1"
"""Version of how text is written; raised when that changes, so that texts written before are written again."""


class Sample(Task):
    """Let parents write the texts of a data declaration."""

    stage, after, kind = "sample", "", "data with `sampled(…)`"
    words = {"sampled": "how the text is written", "prompts": "the prompts"}
    of_texts = True

    @classmethod
    def declared(cls, program: nodes.Program) -> Mapping[str, nodes.Data]:
        return {name: data for name, data in program.data.items() if written_for(data)}

    @property
    def declaration(self) -> nodes.Data:
        """The declaration."""
        return self.program.data[self.name]

    @property
    def sources(self) -> list[nodes.SampledData]:
        """The texts that are written."""
        return written_for(self.declaration)

    def inputs(self) -> dict[str, str]:
        parents = {source.parent: None for source in self.sources}
        prompts = [source.prompts for source in self.sources if source.prompts]
        return {
            "sampled": digest_of([METHOD, *(source.text for source in self.sources)]),
            "parent": digest_of([self.ctx.fingerprint_of(parent, "sample") for parent in parents]),
            **({"prompts": files_fingerprint(prompts, self.ctx.base)} if prompts else {}),
        }

    def lacks(self) -> Iterable[Diagnostic]:
        from puzzledsl.data.chat import prompts_of_file

        for source in self.sources:
            if source.prompts:
                try:
                    prompts_of_file(self.ctx.base / source.prompts, span_of(self.declaration.where))
                except DiagnosticError as error:
                    yield from error.diagnostics

    def work(self) -> Work:
        tokens = sum(source.tokens for source in self.sources)
        flop = sum(s.tokens * DECODING * token_flop(self._shape(s), head=True) for s in self.sources)
        return Work(flop, int(tokens * BYTES_A_TOKEN * 2))

    def _shape(self, source: nodes.SampledData) -> nodes.Shape:
        return self.program.parents[source.parent].shape

    def plans(self, device: Device, disk_bytes: int) -> list[StagePlan]:
        flop = self.work().flop / len(self.sources)
        return [
            sampling_plan(self.name, self._shape(source), source.length, device, flop)
            for source in self.sources
        ]

    def run(self) -> list[Path]:
        from puzzledsl.sampling.documents import SampleInputs, run_sample

        ctx, written = self.ctx, []
        for source in self.sources:
            parent = ctx.directory_of(source.parent, "sample")
            state = digest_of([source.text, self.inputs()])[:16]
            work, output = ctx.build.work("sample", f"{self.name}-{state}"), ctx.build.sampled(source.text)
            span = span_of(self.declaration.where)
            run_sample(SampleInputs(source, self.name, span, parent, ctx.base, output, work, ctx.progress))
            written.append(output)
        return written
