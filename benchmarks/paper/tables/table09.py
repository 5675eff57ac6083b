"""Table 9: scores made for tasks against general ones. Half of the tasks' questions score, the other half judges."""

from __future__ import annotations

from fractions import Fraction

from benchmarks.paper.estimate import difference, mean
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.speedups import EXACT, Gains, children
from benchmarks.paper.study import Study

SPEEDUPS = ("1.2x", "1.35x", "1.5x")
TASKS = ("sciq", "arc_easy")
OTHER_HALF = (Fraction(1, 2), Fraction(1))
ITEMS = 200
"""Questions of each task, of its other half."""


def believed(child: Judged) -> list[float]:
    """The probability of the right choice, item by item over the tasks."""
    return [value for task in TASKS for value in child.belief[task]]


def run(study: Study) -> Result:
    """Children by general scores and by two scores of the tasks, judged on the other questions and on general text."""
    unseen = study.program(TABLE.program).ir.data["unseen"]
    searches = {
        "general, KL": (EXACT, "exact"),
        "tasks, KL": (TABLE.program, "tailored"),
        "tasks, LM loss": (TABLE.program, "answering"),
    }
    items = min(ITEMS, study.budget.items)
    exams = {"text": unseen, "tasks": TASKS, "items": items, "part": OTHER_HALF}
    asked: dict[str, dict[str, Judged]] = {name: {} for name in searches}
    plain: dict[str, dict[str, Judged]] = {name: {} for name in searches}
    for speedup in SPEEDUPS:  # both exams of a child in turn: it is made once
        for found, options in ((asked, exams), (plain, {})):
            for name, judged in children(study, searches, (speedup,), **options).items():
                found[name].update(judged)
    rows = [
        (
            speedup,
            name,
            mean([asked[name][speedup].kl]),
            mean([asked[name][speedup].lm]),
            mean([believed(asked[name][speedup])]),
            mean([asked[name][speedup].excess()]),
            mean([plain[name][speedup].kl]),
        )
        for speedup in SPEEDUPS
        for name in searches
    ]
    general, tailored, answering = asked.values()
    claims = Gains.of(general, tailored).claims(
        "KL scores of the tasks lose less KL on their other questions than general scores"
    )
    for name, child in (("KL", tailored), ("LM-loss", answering)):
        claims.append(
            Claim(
                f"{name} scores of the tasks lose less LM loss on their other questions, over all speed-ups",
                Gains.of(general, child, "lm").pooled,
            )
        )
        gain = difference([believed(c) for c in child.values()], [believed(c) for c in general.values()])
        claims.append(
            Claim(
                f"{name} scores of the tasks give their right answers more probability, over all speed-ups",
                gain,
                "probability",
            )
        )
    return Result(COLUMNS, rows, claims, "", {})


COLUMNS = (
    "throughput required",
    "scores",
    "KL on other questions",
    "LM loss on other questions",
    "probability of the right answer",
    "right answers above chance",
    "KL on general text",
)
TABLE = Table(
    "table09",
    "Table 9",
    "Do scores made for tasks give a child that is better at them?",
    "Scored on half of MMLU's tasks, accuracy on the other half: scores of the tasks 66.24 at 5,818 tokens/s, KL scores 64.94 "
    "at 5,834, Llama-3.2-3B 60.06 at 5,737.",
    run,
)
