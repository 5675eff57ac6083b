"""The program's own evaluation, and the study's figures of the same child."""

from __future__ import annotations

import pytest

from benchmarks.paper import judge
from benchmarks.paper.estimate import mean, ratio
from benchmarks.paper.study import Study
from benchmarks.paper.tables.table02 import TABLE, TASKS, excess
from puzzledsl.ir.tables import Evaluation

UPTRAIN, EVAL = "schooled", "retained"


def test_the_programs_evaluation_says_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parent and child answer every task alike, and keep as much of it."""
    monkeypatch.setattr(judge, "faster_in_bfloat16", lambda device: False)
    items = study.budget.items
    parent = study.parent([*TASKS], items)
    child = study.child(TABLE.program, UPTRAIN, [*TASKS], items)
    program = study.program(TABLE.program, items=items)
    program.run(until="eval")
    evaluation = Evaluation.from_json((program.build / "evals" / f"{EVAL}.json").read_bytes())
    (kept,) = [found.kept for found in evaluation.comparisons if found.model == UPTRAIN]
    for task in TASKS:
        told = kept[task]
        assert told.parent == pytest.approx(mean([parent.answers[task]]).value)
        assert told.child == pytest.approx(mean([child.answers[task]]).value)
        assert told.chance == pytest.approx(mean([parent.chances[task]]).value)
        if told.chance_corrected is not None and mean([excess(parent, task)]).low > 0:
            found = ratio([excess(child, task)], [excess(parent, task)])
            assert told.chance_corrected == pytest.approx(found.value)
