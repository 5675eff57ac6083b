"""The page that shows everything in the build directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from puzzledsl.base.files import sha256_of
from puzzledsl.ir import nodes
from puzzledsl.pipeline.compile import COMPILE
from puzzledsl.pipeline.process.failures import failures
from puzzledsl.pipeline.stamps import digest_of
from puzzledsl.pipeline.task import Key, Task, Touched


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
