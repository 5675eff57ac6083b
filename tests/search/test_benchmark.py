"""The benchmark's script runs, and the search is never worse than the solvers it is compared with."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cpu_limits
from benchmarks.plain_cpsat import meets
from benchmarks.problems import build_problem
from benchmarks.rivals import RIVALS
from benchmarks.special import LAWS
from benchmarks.structure_checks import brute_force, mistakes
from benchmarks.structures import ALL_KINDS, SMALL, structured
from benchmarks.synthetic import Inputs, synthetic
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import CostTable, ScoreTable
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.minimise import minimise

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_quick_run_prints_a_ratio_for_every_question() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.search", "--quick"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    for line in (
        "ours / highs = 1/",
        "ours / cbc = 1/",
        "frontier",
        "12 batches",
        "answers",
        "conflicts of 12 layers",
        "1 minimal",
        "laws, each a hypothesis test",
        "cold `pzl solve`",
    ):
        assert line in run.stdout
    assert "0 of 1 instances differ" in run.stdout
    assert re.findall(r"better than ours (\d+) times", run.stdout) == ["0"] * len(RIVALS)


def test_the_laws_that_it_names_are_tests() -> None:
    for law in LAWS:
        path, name = law.split("::")
        assert f"\ndef {name}(" in (ROOT / path).read_text()


def test_no_rival_has_a_better_answer() -> None:
    for seed in range(3):
        program, costs, scores = synthetic(16, seed=seed)
        problem = build_problem(program, "best", costs, scores)
        ours = minimise(problem, Effort.of(60))
        assert ours.proven and ours.value is not None
        for solve in RIVALS.values():
            said = solve(problem, 20)
            assert said.value is None or said.value >= ours.value


# ---------------------------------------------------------------- searches with structure


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["--quick"],
            [
                r"dropped_run +6 layers: ours [0-9.]+ s, CP-SAT [0-9.]+ s; ratio [0-9.]+; worst .*; proven 1/1 and 1/1",
                rf"{len(ALL_KINDS)} instances: 0 wrong answers, 0 worse than CP-SAT's \(targets: 0\)",
                r"not proven by ours where CP-SAT proves it: 0 \(target: 0\)",
                r"slower than 1.5 x CP-SAT \+ 0.3 s: [0-9]+ \(target: 0\)",
                r"geometric mean of ours / CP-SAT: [0-9.]+ \(target: below 0.7\)",
            ],
        ),
        (
            ["--quick", "--random", "4", "--same", "1", "--deadlines", "1"],
            [
                "2 small programs against brute force, 2 larger ones against CP-SAT: 0 wrong answers, ",
                r"1 runs of 1 hard searches: [0-9]+ ended more than 0.3 s and 5% late",
                r"1 searches, 3 numbers of workers x 5 seeds: 0 differ \(target: 0\), 0 not proven",
            ],
        ),
    ],
)
def test_the_quick_run_of_searches_with_structure(arguments: list[str], lines: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.structure", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    for line in lines:
        assert re.search(line, run.stdout), run.stdout


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_has_an_answer_that_a_budget_and_the_structure_decide(kind: str) -> None:
    program, costs, scores = structured(kind, 5, 0, choice=SMALL)
    problem = build_problem(program, "best", costs, scores)
    best = brute_force(problem)
    found = minimise(problem, Effort.of(60))
    assert best is not None and meets(problem, best)
    assert found.chosen is not None and found.chosen.tolist() == best.tolist()
    assert not [*mistakes(problem, found, problem.goal.of(best), proven=True)]


@pytest.mark.parametrize(
    ("work_s", "proves", "walls"),
    [
        (1.0, True, [1.0]),  # proven at once
        (1.0, False, [1.0]),  # had its CPU seconds
        (0.25, False, [1.0, 4.0, 6.0]),  # stopped by the clock three times
        (None, False, [1.0]),  # ends by itself
    ],
)
def test_a_busy_machine_gives_a_solver_more_time(
    monkeypatch: pytest.MonkeyPatch, work_s: float | None, proves: bool, walls: list[float]
) -> None:
    clock = {"cpu": 0.0, "wall": 0.0}
    monkeypatch.setattr(cpu_limits, "cpu_s", lambda: clock["cpu"])
    monkeypatch.setattr(cpu_limits, "monotonic", lambda: clock["wall"])
    asked: list[float] = []

    def solve(wall_s: float) -> bool:
        asked.append(wall_s)
        clock["cpu"] += work_s or 0.1
        clock["wall"] += wall_s if work_s is not None else 0.1
        return proves

    timed = cpu_limits.with_cpu_limit(solve, 1.0, lambda proven: proven)
    assert asked == walls
    assert timed.seconds == pytest.approx(work_s or 0.1)


def test_a_wrong_answer_is_told() -> None:
    problem = build_problem(*_args(structured("one_width", 5, 0, choice=SMALL)))
    found = minimise(problem, Effort.of(60))
    assert found.value is not None and found.chosen is not None
    lower, higher = found.value - 1, found.value + 1
    assert "we call optimal what is not" in mistakes(problem, found, lower, proven=False)
    assert [*mistakes(problem, found, higher, proven=True)] == ["the other solver calls optimal what is not"]
    broken = replace(found, chosen=problem.columns.start[:-1])
    assert "our answer breaks a requirement" in mistakes(problem, broken, None, proven=False)
    none = replace(found, chosen=None, value=None, bound=None)
    assert [*mistakes(problem, none, lower, proven=True)] == ["we say that there is no answer"]


def _args(inputs: Inputs) -> tuple[Program, str, CostTable, dict[str, ScoreTable]]:
    program, costs, scores = inputs
    return program, "best", costs, scores
