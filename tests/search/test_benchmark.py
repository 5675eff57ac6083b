"""The benchmark's script runs, and the search is never worse than the solvers it is compared with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rivals import RIVALS
from benchmarks.special import LAWS

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
