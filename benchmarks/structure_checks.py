"""Checks of searches as text: right answers, ends within the limit, the same bytes for any seed and number of workers.

Run by `python -m benchmarks.structure` with `--random N`, `--deadlines N` or `--same N`. What a program gave is a line of the
file of results, so that the same command goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import puzzledsl as pzl
from benchmarks.structure_form import Draw, Meaning
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import Judged, Text, plain_cpsat, program, with_budgets
from benchmarks.structure_text import ENDS, MENUS, SMALL, Child, Menu, Rng, Tables, World
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.checker.errors import TooMuch
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.score_table import read_score_table
from puzzledsl.search.solve import cpsat_model, solve_search

SMALL_LAYERS, MID_LAYERS = (3, 6), (8, 25)
LIMIT_S, PLAIN_S, SAME_S = 10.0, 10.0, 60.0
LIMITS_S = (1, 2, 5)
WORKERS, SEEDS = (1, 2, 4), range(5)
LATE_S, LATE_SHARE = 0.3, 0.05  # a run may end so much after its limit, whichever is more
# forms that stand beside others: requirements alone, of any space
MIXED = [f for f in FORMS.values() if not (f.menu or f.runs or f.ends or f.priced or f.alone)]


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
            self.tables.child([(*x.model_dump().values(),) for x in s.layers], s.batches)
            for s in result.solutions
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
    """Goal and preferences of the best of all children at all batches; None where none meets the requirements."""
    ends = ENDS if tables.world.ends else ENDS[:1]
    drawn: Iterable[Any] = product(*tables.choices, ends, tables.batches)
    every = (Child(tables, layers, batches, end) for *layers, end, batches in drawn)
    ranked = sorted(((_values(meaning, child), child) for child in every), key=_as_floats)
    for _, same in groupby(ranked, key=_as_floats):
        if found := [values for values, child in same if meaning.holds(child)]:
            return min(found)
    return None


def _as_floats(ranked: tuple[tuple[Fraction, ...], Child]) -> tuple[float, ...]:
    return tuple(map(float, ranked[0]))


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


def drawn(rng: Rng, layers: int, seed: int, limit_s: float, menu: Menu, folder: Path) -> Loaded:
    """The first mixture of forms that does not ask for more work than a check does. Raises DiagnosticError for any other."""
    while True:
        text = mixture(rng, layers, seed, limit_s, menu)
        try:
            return Loaded(text, folder)
        except DiagnosticError as error:
            if {each.kind for each in error.diagnostics} != {TooMuch}:
                raise


Found = dict[str, str]  # what a check finds: by its kind, the words


def random_program(seed: int, folder: Path) -> Found:
    """Programs of several forms: every second one against brute force, the others beside CP-SAT alone."""
    rng, small = np.random.default_rng([seed, 1]), seed % 2 == 0
    layers = int(rng.integers(*(SMALL_LAYERS if small else MID_LAYERS)))
    try:
        loaded = drawn(rng, layers, seed, LIMIT_S, SMALL if small else MENUS[seed % 3], folder)
    except DiagnosticError as error:
        return {"refused": str(error)}
    text, result = loaded.text, loaded.solve()
    if small:
        mistake = loaded.against_all(result)
        return {"wrong": f"{text.name}: {mistake}"} if mistake else {}
    mistakes, only = loaded.mistakes(result, PLAIN_S)
    found = {"wrong": f"{text.name}: {'; '.join(mistakes)}"} if mistakes else {}
    return found | ({"better or proven by CP-SAT alone": text.name} if only else {})


def deadline(seed: int, folder: Path) -> Found:
    """Hard searches at several limits: those that end late, by more than is allowed."""
    limit_s = LIMITS_S[seed % len(LIMITS_S)]
    try:
        loaded = drawn(np.random.default_rng([seed, 3]), 80, seed, limit_s, MENUS[2], folder)
    except DiagnosticError as error:
        return {"refused": str(error)}
    text = loaded.text
    began, busy = time.monotonic(), time.process_time()
    result = loaded.solve()
    took_s = min(time.monotonic() - began, time.process_time() - busy)
    late = took_s > limit_s + max(LATE_S, LATE_SHARE * limit_s)
    return {"late": f"{text.name}, time {limit_s} s: {took_s:.2f} s ({result.status})"} if late else {}


def same_bytes(seed: int, folder: Path) -> Found:
    """The result of searches as JSON, for 1, 2 and 4 workers and five seeds."""
    rng = np.random.default_rng([seed, 4])
    text = mixture(rng, int(rng.integers(4, 13)), seed, SAME_S, MENUS[seed % 3])
    try:
        results = [*_results(text, folder)]
    except DiagnosticError as error:
        return {"refused": f"{text.name}: {error}"}
    found = {} if len({r.canonical_json() for r in results}) == 1 else {"different": text.name}
    proven = all(r.status in ("optimal", "infeasible") for r in results)
    return found if proven else found | {"unproven": text.name}


def _results(text: Text, folder: Path) -> Iterator[SearchResult]:
    for seed in SEEDS:
        changed = text.text.replace(f"seed: {text.world.seed})", f"seed: {seed})")
        loaded = Loaded(replace(text, text=changed), folder)
        yield from (loaded.solve(workers) for workers in WORKERS)


CHECKS = {"random": random_program, "deadlines": deadline, "same": same_bytes}
FAULTS = ("wrong", "late", "different", "refused")


def checked(name: str, number: int, results: Path) -> bool:
    """Go on with a check until `number` programs have gone through it. Return True if there is no fault."""
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    known: dict[int, Found] = {r["seed"]: r["found"] for r in map(json.loads, lines)}
    for seed in range(number):
        if seed not in known:
            with TemporaryDirectory() as folder:
                known[seed] = CHECKS[name](seed, Path(folder) / "one")
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seed": seed, "found": known[seed]}) + "\n")
            print(f"{seed}: {known[seed] or 'as it should be'}", flush=True)
    kinds = [kind for seed in range(number) for kind in known[seed]]
    for kind in dict.fromkeys((*FAULTS, *kinds)):
        print(f"{kind}: {kinds.count(kind)}{' (target: 0)' if kind in FAULTS else ''} of {number}")
    return not {*FAULTS} & {*kinds}
