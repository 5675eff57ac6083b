"""Text that a parent writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.references import written_for
from puzzledsl.pipeline.digests import digest_of, files_fingerprint
from puzzledsl.pipeline.planning.flop import BYTES_A_TOKEN, token_flop
from puzzledsl.pipeline.task import Task, Work
from puzzledsl.plan.memory.stage_plan import Device, StagePlan
from puzzledsl.plan.memory.stages import DECODING, sampling_plan

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
        from puzzledsl.data.prompts import prompts_of_file

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
