"""Paths of all files in a build directory. Computes paths only; creates nothing."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.base.frozen import record


@record
class BuildDir:
    """Layout of `build/` beside a program: one path per artefact of the pipeline."""

    root: Path

    @property
    def program(self) -> Path:
        """The lowered program (ir.nodes.Program)."""
        return self.root / "ir.json"

    def bld_plan(self, bld: str) -> Path:
        """One ir.tables.BldJob a line."""
        return self.root / "bld" / f"{bld}.jsonl"

    def costs(self, space: str) -> Path:
        """Analytic and imported costs (ir.tables.CostTable)."""
        return self.root / "costs" / f"{space}.json"

    def measured_costs(self, space: str) -> Path:
        """Costs measured on this machine (ir.tables.CostTable)."""
        return self.root / "costs" / f"{space}.measured.json"

    def measured_csv(self, space: str) -> Path:
        """The same as a table that other programs can read: `table("SPACE.measured.csv")`."""
        return self.root / "costs" / f"{space}.measured.csv"

    @property
    def library(self) -> Path:
        """The block library: safetensors and an index."""
        return self.root / "library"

    def scores(self, score: str) -> Path:
        """A score table (ir.tables.ScoreTable)."""
        return self.root / "scores" / f"{score}.json"

    def figures(self, digest: str) -> Path:
        """All metrics of one set of replacements on one text, also those that no score uses."""
        return self.root / "scores" / "figures" / f"{digest}.jsonl"

    def cpsat_model(self, search: str) -> Path:
        """The CP-SAT model, binary protobuf."""
        return self.root / "search" / f"{search}.pb"

    def frontier(self, frontier: str) -> Path:
        """A solved frontier (ir.tables.FrontierResult)."""
        return self.root / "search" / f"{frontier}.json"

    def frontier_csv(self, frontier: str) -> Path:
        """A frontier's points, one a row."""
        return self.root / "search" / f"{frontier}.csv"

    def frontier_plot(self, frontier: str) -> Path:
        """A frontier as a picture."""
        return self.root / "search" / f"{frontier}.svg"

    def solution(self, search: str) -> Path:
        """A search's answer (ir.tables.SearchResult)."""
        return self.root / "solutions" / f"{search}.json"

    def refinement(self, name: str) -> Path:
        """Children measured around a search's answer, or along a frontier (ir.tables.Refinement, RefinedFrontier)."""
        return self.root / "refined" / f"{name}.json"

    def why(self, search: str) -> Path:
        """The regret of every other choice, and each requirement's margin (ir.tables.WhyResult)."""
        return self.root / "why" / f"{search}.json"

    def model(self, name: str) -> Path:
        """A child checkpoint directory, named after its search or uptrain."""
        return self.root / "models" / name

    def work(self, stage: str, name: str) -> Path:
        """Unfinished work of a stage, from which it resumes; removed when the stage ends."""
        return self.root / "work" / stage / name

    def evaluation(self, evaluation: str) -> Path:
        """Measured figures (ir.tables.Evaluation)."""
        return self.root / "evals" / f"{evaluation}.json"

    def failure(self, stage: str, name: str) -> Path:
        """Problems of a task that failed when it was last tried (ir.tables.Failure)."""
        return self.root / "failures" / f"{stage}-{name}.json"

    def engines(self, name: str) -> Path:
        """A child in other engines (ir.tables.EngineCheck)."""
        return self.root / "engines" / f"{name}.json"

    def sampled(self, text: str) -> Path:
        """A text that a parent wrote: a line for each document (ir.tables.WrittenText)."""
        return self.root / "sampled" / f"{text}.jsonl"

    @property
    def tokens(self) -> Path:
        """Tokenised text, by digest."""
        return self.root / "tokens"

    @property
    def report(self) -> Path:
        """The one-page report."""
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        """JSON lines: what happened and when."""
        return self.root / "log.jsonl"
