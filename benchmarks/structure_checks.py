"""Checks of searches as text: right answers, ends within the limit, the same bytes for any seed and number of workers.

Run by `python -m benchmarks.structure` with `--random N`, `--deadlines N` or `--same N`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import puzzledsl as pzl
from benchmarks.structure_form import Draw, Meaning
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import Judged, Text, plain_cpsat, program, with_budgets
from benchmarks.structure_text import MENUS, SMALL, Child, Menu, Rng, Tables, World
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import cpsat_model, solve_search

SMALL_LAYERS, MID_LAYERS = (3, 6), (8, 25)
LIMIT_S, PLAIN_S, SAME_S = 20.0, 20.0, 60.0
LIMITS_S = (1, 2, 5)
WORKERS, SEEDS = (1, 2, 4), range(5)
LATE_S, LATE_SHARE = 0.3, 0.05  # a run may end so much after its limit, whichever is more
# forms that stand beside others: requirements alone, of any space
MIXED = [f for f in FORMS.values() if not (f.menu or f.runs or f.priced or f.alone)]


class Loaded:
    """A text that is loaded, with its tables."""

    def __init__(self, text: Text, folder: Path) -> None:
        self.text = text
        self.ir = pzl.load(text.write(folder), build=folder / "build").ir
        self.costs = cost_table(self.ir, "w", folder)
        scores = read_score_table(folder / "scores.csv", self.ir.scores["kl"], self.ir.spaces["w"])
        self.scores = {"kl": scores}
        self.tables = Tables(text.world, json.loads(self.costs.canonical_json()))

    def solve(self, workers: int = 1) -> SearchResult:
        """The verified result of the search."""
        return solve_search(self.ir, "best", self.costs, self.scores, workers=workers)

    def mistakes(self, result: SearchResult, limit_s: float) -> tuple[list[str], bool]:
        """Mistakes beside CP-SAT's answer to the exported model; True where CP-SAT proves its own alone or has a better one."""
        model = cpsat_model(self.ir, "best", self.costs, self.scores)
        said = plain_cpsat(model, limit_s, *self.text.meaning.solutions)
        judged = Judged(self.text, self.tables, json.loads(result.canonical_json()), said)
        proven = result.status in ("optimal", "infeasible")
        return [*judged.mistakes()], bool(judged.worse()) or (
            said.status in ("OPTIMAL", "INFEASIBLE") and not proven
        )

    def against_all(self, result: SearchResult) -> str:
        """A mistake beside the best of all children; empty if there is none."""
        best = best_of_all(self.text.meaning, self.tables)
        found = [
            self.tables.child([(x.attention, x.ffn) for x in s.layers], s.batches) for s in result.solutions
        ]
        if best is None or not found:
            wrong = (best is None) != (result.status == "infeasible")
            return f"{result.status}, the best of all {best}" if wrong else ""
        values = _values(self.text.meaning, found[0])
        holds = self.text.meaning.holds(found[0])
        wrong = result.status != "optimal" or values != best or not holds
        return (
            f"{result.status} {values}, the best of all {best}{'' if holds else ', breaks a requirement'}"
            if wrong
            else ""
        )


def best_of_all(meaning: Meaning, tables: Tables) -> tuple[Fraction, ...] | None:
    """Goal and preferences of the best of all children at the first batches; None where none meets the requirements."""
    every = (Child(tables, layers, tables.first_batches) for layers in product(*tables.choices))
    return min((_values(meaning, child) for child in every if meaning.holds(child)), default=None)


def _values(meaning: Meaning, child: Child) -> tuple[Fraction, ...]:
    return (Fraction(meaning.value(child)), *(-Fraction(int(value(child))) for value in meaning.prefer))


# ---------------------------------------------------------------- programs of several forms


def mixture(rng: Rng, layers: int, seed: int, limit_s: float, menu: Menu, most: int = 3) -> Text:
    """One to three forms together, each in one of its ways, with one or two budgets."""
    places = rng.choice(len(MIXED), int(rng.integers(1, most + 1)), replace=False).tolist()
    world = World(layers, seed, menu, measured=seed % 3 == 1)
    meanings = [MIXED[i].meaning(Draw(world, rng)) for i in places]
    ways = [list(m.ways.items())[int(rng.integers(len(m.ways)))] for m in meanings]
    together = Meaning(lambda c: all(m.holds(c) for m in meanings), {})
    together, budgets = with_budgets(together, rng, seed)
    name = "+".join(MIXED[i].name for i in places)
    body = "\n".join(text for _, text in ways)
    text = program(world, together, body, budgets, limit_s, seed)
    return Text(name, "+".join(way for way, _ in ways), world, together, text)


def random_programs(number: int) -> Iterator[tuple[str, bool]]:
    """Every second program small enough for brute force, the others beside CP-SAT alone. Yield lines, True of faults."""
    wrong = unproven = refused = 0
    with TemporaryDirectory() as directory:
        for seed in range(number):
            rng, small = np.random.default_rng([seed, 1]), seed % 2 == 0
            layers = int(rng.integers(*(SMALL_LAYERS if small else MID_LAYERS)))
            text = mixture(rng, layers, seed, LIMIT_S, SMALL if small else MENUS[seed % 3])
            try:
                loaded = Loaded(text, Path(directory) / "one")
            except DiagnosticError as error:
                refused += 1
                yield f"{seed}: {text.form}: {error}", True
                continue
            result = loaded.solve()
            if small:
                mistakes = [m] if (m := loaded.against_all(result)) else []
            else:
                mistakes, only = loaded.mistakes(result, PLAIN_S)
                unproven += only
            wrong += bool(mistakes)
            yield from ((f"{seed}: {text.name}: {mistake}", True) for mistake in mistakes)
    counts = f"{wrong} wrong, {refused} refused (targets: 0)"
    yield f"{number} programs: {counts}, {unproven} better or proven by CP-SAT alone", False


def deadlines(number: int) -> Iterator[tuple[str, bool]]:
    """Hard searches at several limits: those that end late, by more than is allowed. Yield lines, True of faults."""
    over: list[float] = []
    with TemporaryDirectory() as directory:
        for seed in range(number):
            limit_s = LIMITS_S[seed % len(LIMITS_S)]
            text = mixture(np.random.default_rng([seed, 3]), 80, seed, limit_s, MENUS[2])
            try:
                loaded = Loaded(text, Path(directory) / "one")
            except DiagnosticError:
                continue
            began, busy = time.monotonic(), time.process_time()
            result = loaded.solve()
            took_s = min(time.monotonic() - began, time.process_time() - busy)
            if took_s > limit_s + max(LATE_S, LATE_SHARE * limit_s):
                over.append(took_s - limit_s)
                yield f"{text.name}, time {limit_s} s: {took_s:.2f} s ({result.status})", True
    yield f"{number} searches: {len(over)} late (target: 0), by up to {max(over, default=0.0):.2f} s", False


def same_bytes(number: int) -> Iterator[tuple[str, bool]]:
    """The result of proven searches as JSON, for each number of workers and each seed. Yield lines, True of faults."""
    different = unproven = 0
    with TemporaryDirectory() as directory:
        for seed in range(number):
            rng = np.random.default_rng([seed, 4])
            text = mixture(rng, int(rng.integers(4, 13)), seed, SAME_S, MENUS[seed % 3])
            try:
                results = [*_results(text, Path(directory) / "one")]
            except DiagnosticError:
                continue
            unproven += any(r.status not in ("optimal", "infeasible") for r in results)
            if len({r.canonical_json() for r in results}) > 1:
                different += 1
                yield f"{text.name}: different results", True
    runs = f"{len(WORKERS)} numbers of workers x {len(SEEDS)} seeds"
    yield f"{number} searches, {runs}: {different} differ (target: 0), {unproven} unproven", False


def _results(text: Text, folder: Path) -> Iterator[SearchResult]:
    for seed in SEEDS:
        changed = text.text.replace(f"seed: {text.world.seed})", f"seed: {seed})")
        loaded = Loaded(replace(text, text=changed), folder)
        yield from (loaded.solve(workers) for workers in WORKERS)
