"""The benchmark's script runs, and the search is never worse than the solvers it is compared with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.problems import build_problem
from benchmarks.rivals import RIVALS
from benchmarks.special import LAWS
from benchmarks.synthetic import synthetic
from puzzledsl.search.portfolio.minimise import minimise
from puzzledsl.search.problem.instance import Effort

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_quick_run_prints_a_ratio_for_every_question() -> None:
    command = [sys.executable, "-m", "benchmarks.search", "--quick"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    for line in ("ours / highs = 1/", "frontier", "12 batches", "answers", "1 minimal", "cold `pzl solve`"):
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
