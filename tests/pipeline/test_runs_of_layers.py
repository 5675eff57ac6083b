"""Scores of runs of layers from the program to the answer: planned, measured, and taken by the search."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir.tables import ScoreTable, SearchResult
from tests.pipeline.test_status import said, told
from tests.pipeline.tiny_program import run_with, write_tiny_program

MORE = """
score row of pieces = replace_one(kl_divergence, samples: 128, runs: 2..3)
search shallow of wide { minimize row, require params <= 60% * tiny.params }
"""


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_says_how_many_runs_are_measured(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    program.write_text(program.read_text() + MORE)
    steps = told("run", program, "--dry-run")["steps"]
    runs = {f"{step['stage']} {step['name']}": step.get("runs") for step in steps}
    assert (runs["score row"], runs["score kl"]) == (3, None)  # layers 0-1, 1-2 and 0-2
    seconds = {f"{step['stage']} {step['name']}": step["seconds"] for step in steps}
    assert seconds["score row"] >= seconds["score kl"]
    code, out, _ = said("run", program, "--dry-run")
    assert code == 0 and "score row (with 3 runs of layers)" in out


def test_a_search_takes_what_was_measured(tmp_path: Path) -> None:
    build = run_with(tmp_path, MORE)
    table = ScoreTable.from_json((build / "scores" / "row.json").read_bytes())
    plain = ScoreTable.from_json((build / "scores" / "kl.json").read_bytes())
    assert (table.attention, table.ffn, plain.runs) == (plain.attention, plain.ffn, ())
    assert {(run.first, run.length) for run in table.runs} == {(0, 2), (1, 2), (0, 3)}
    solution = SearchResult.from_json((build / "solutions" / "shallow.json").read_bytes()).solutions[0]
    dropped = [i for i, c in enumerate(solution.layers) if c.attention == c.ffn == "noop"]
    single = [
        Fraction(repr(table.attention[i].get(c.attention, 0.0)))
        + Fraction(repr(table.ffn[i].get(c.ffn, 0.0)))
        for i, c in enumerate(solution.layers)
    ]
    runs = {(run.first, run.length): Fraction(repr(run.value)) for run in table.runs}
    expected = sum(single, Fraction(0))
    if len(dropped) > 1 and dropped == list(range(dropped[0], dropped[-1] + 1)):
        expected += runs[dropped[0], len(dropped)] - sum(single[i] for i in dropped)
    assert solution.objective == float(expected)
