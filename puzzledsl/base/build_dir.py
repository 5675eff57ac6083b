"""Paths of all files in a build directory. Computes paths only; creates nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from puzzledsl.base.frozen import Record


class _Fixed:
    """Attribute of a build directory: one path, relative to its root."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __get__(self, build: BuildDir, owner: type) -> Path:
        return build.root / self._path


class _Named(_Fixed):
    """Attribute of a build directory: a function from names to a path, where each `{}` is replaced by a name."""

    def __get__(self, build: BuildDir, owner: type) -> Callable[..., Path]:  # type: ignore[override]
        return lambda *names: build.root / self._path.format(*names)


class BuildDir(Record):
    """Layout of `build/` beside a program: one path per artefact of the pipeline."""

    root: Path

    program = _Fixed("ir.json")  # The lowered program (ir.nodes.Program).
    bld_plan = _Named("bld/{}.jsonl")  # One ir.tables.BldJob a line.
    costs = _Named("costs/{}.json")  # Analytic and imported costs (ir.tables.CostTable).
    measured_costs = _Named("costs/{}.measured.json")  # Costs measured on this machine (ir.tables.CostTable).
    measured_csv = _Named("costs/{}.measured.csv")
    """The measured costs as a table that other programs can read: `table("SPACE.measured.csv")`."""
    library = _Fixed("library")  # The block library: safetensors and an index.
    scores = _Named("scores/{}.json")  # A score table (ir.tables.ScoreTable).
    figures = _Named("scores/figures/{}.jsonl")
    """All metrics of one set of replacements on one text, also those that no score uses."""
    cpsat_model = _Named("search/{}.pb")  # The CP-SAT model, binary protobuf.
    frontier = _Named("search/{}.json")  # A solved frontier (ir.tables.FrontierResult).
    frontier_csv = _Named("search/{}.csv")  # A frontier's points, one a row.
    solution = _Named("solutions/{}.json")  # A search's answer (ir.tables.SearchResult).
    refinement = _Named("refined/{}.json")
    """Children measured around a search's answer (ir.tables.Refinement)."""
    model = _Named("models/{}")  # A child checkpoint directory, named after its search or uptrain.
    work = _Named("work/{}/{}")
    """Unfinished work of a stage, from which it resumes; removed when the stage ends."""
    evaluation = _Named("evals/{}.json")  # Measured figures (ir.tables.Evaluation).
    eval_units = _Fixed("evals/units")
    """Results of models on texts and tasks, by digest, for every later evaluation."""
    failure = _Named("failures/{}-{}.json")
    """Problems of a task that failed when it was last tried (ir.tables.Failure)."""
    load = _Named("load/{}.json")  # A search's child and its parent under traffic (ir.tables.LoadCheck).
    tokens = _Fixed("tokens")  # Tokenised text, by digest.
    report = _Fixed("report.html")  # The one-page report.
    log = _Fixed("log.jsonl")  # JSON lines: what happened and when.
