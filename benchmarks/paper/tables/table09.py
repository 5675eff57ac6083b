"""Table 9: scores made for tasks against general ones. Half of the tasks' questions score, the other half judges."""

from __future__ import annotations

from fractions import Fraction

from benchmarks.paper.estimate import Estimate, mean
from benchmarks.paper.judge import Judged
from benchmarks.paper.result import Claim, Result, Table
from benchmarks.paper.speedups import EXACT, Gains, children, over_all, told
from benchmarks.paper.study import Study

SPEEDUPS = ("1.2x", "1.5x")
TASKS = ("sciq", "arc_easy")
OTHER_HALF = (Fraction(1, 2), Fraction(1))
ITEMS = 150
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
    kl = Gains.of(general, tailored)
    lm = {"KL": Gains.of(general, tailored, "lm"), "LM-loss": Gains.of(general, answering, "lm")}
    right = {
        name: over_all([believed(c) for c in side.values()], [believed(c) for c in general.values()])
        for name, side in (("KL", tailored), ("LM-loss", answering))
    }
    claims = kl.claims("KL scores of the tasks lose less KL on their other questions than general scores")
    for name in lm:
        statement = (
            f"{name} scores of the tasks lose less LM loss on their other questions than general scores"
        )
        claims.append(Claim(f"{statement}, over all speed-ups", lm[name].pooled))
        statement = (
            f"{name} scores of the tasks give their right answers more probability than general scores"
        )
        claims.append(Claim(f"{statement}, over all speed-ups", right[name], "of probability"))
    elsewhere = Gains.of(plain["tasks, KL"], plain["general, KL"]).pooled
    figures = {
        "kl": abs(kl.pooled.value),
        "lm": abs(lm["KL"].pooled.value),
        "right": abs(right["KL"].value),
        "elsewhere": abs(elsewhere.value),
    }
    return Result(COLUMNS, rows, claims, reading(kl.pooled, right["KL"], elsewhere), figures)


def reading(kl: Estimate, right: Estimate, elsewhere: Estimate) -> str:
    """The loss on the tasks' other questions, the answers, and the loss on general text."""
    return " ".join(
        (
            told(
                kl,
                "Children of the tasks' KL scores lose {kl} nats less on questions that no score has seen.",
                "Children of the tasks' KL scores lose {kl} nats more on questions that no score has seen.",
                "Children of the tasks' KL scores lose the same on questions that no score has seen, as far as these can tell.",
            ),
            told(
                right,
                "They give the right answers {right} more probability.",
                "They give the right answers {right} less probability.",
                "The right answers are not measurably likelier to them.",
            ),
            told(
                elsewhere,
                "On general text they lose {elsewhere} nats more: what is made for tasks is paid for elsewhere.",
                "On general text they lose {elsewhere} nats less.",
                "On general text they lose the same, as far as it can tell.",
            ),
        )
    )


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
