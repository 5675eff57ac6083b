"""Evaluate a saved program once: its diagnostics, and the solution of every search that is ready. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.ir.tables import CostTable, SearchResult
from puzzledsl.pipeline import inputs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.opening import open_program
from puzzledsl.pipeline.tasks.solve import Solve
from puzzledsl.search.solve import solve_search


@dataclass(frozen=True)
class Snapshot:
    """A saved program, checked and solved once.

    `context` is None if the program has errors. `waiting` maps each unsolvable search to the diagnostics of what it
    lacks.
    """

    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]
    context: Context | None
    results: Mapping[str, SearchResult]
    costs: Mapping[str, CostTable]
    waiting: Mapping[str, tuple[Diagnostic, ...]]
    checked_s: float
    solved_s: float

    @property
    def files(self) -> list[Path]:
        """The files that the program and its tables were read from."""
        sources = [Path(name) for name in self.sources if not name.startswith("std/")]
        return sources if self.context is None else sources + inputs.table_files(self.context)


def check_and_solve(
    file: Path, settings: Mapping[str, str], build: Path, searches: Iterable[str] = ()
) -> Snapshot:
    """Check a file and solve its searches (those named, or all) with the scores and costs of the build directory.

    Never raises for a user's mistake: it is in `diagnostics` or in `waiting`.
    """
    began = time.perf_counter()
    opened = open_program(file, settings, build)
    checked_s = time.perf_counter() - began
    ctx = opened.context
    if ctx is None:
        return Snapshot(opened.diagnostics, opened.sources, None, {}, {}, {}, checked_s, 0.0)
    program = ctx.program
    results: dict[str, SearchResult] = {}
    costs: dict[str, CostTable] = {}
    waiting: dict[str, tuple[Diagnostic, ...]] = {}
    began = time.perf_counter()
    wanted = list(searches) or list(program.searches)
    for name in (n for n in wanted if n in program.searches):
        try:
            if (problem := Solve(ctx, name).obstacle()) is not None:
                waiting[name] = (problem,)
                continue
            space = program.searches[name].space
            costs[space] = inputs.costs_of(ctx, space)
            results[name] = solve_search(program, name, costs[space], inputs.scores_of(ctx, name))
        except DiagnosticError as error:
            waiting[name] = error.diagnostics
    solved_s = time.perf_counter() - began
    return Snapshot(opened.diagnostics, opened.sources, ctx, results, costs, waiting, checked_s, solved_s)


def changed_layers(before: SearchResult | None, now: SearchResult) -> list[int]:
    """Return the layers in which the best child differs; empty without a result to compare."""
    if before is None or not before.solutions or not now.solutions:
        return []
    old, new = before.solutions[0].layers, now.solutions[0].layers
    if len(old) != len(new):
        return []
    return [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
