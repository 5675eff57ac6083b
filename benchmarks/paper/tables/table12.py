"""Table 12: the least loss by the scores against the most parameters that are fast enough."""

from __future__ import annotations

from benchmarks.paper.result import Result, Table
from benchmarks.paper.speedups import against_exact
from benchmarks.paper.study import Study


def run(study: Study) -> Result:
    """The loss of both children at each speed-up."""
    statement = "scores lose less than the most parameters that fit"
    return against_exact(study, TABLE.program, "largest", statement, "most parameters")


TABLE = Table(
    "table12",
    "Table 12",
    "Are scores worth measuring, or would the most parameters that fit do?",
    "MMLU before uptraining: most parameters 23.12 (chance is 25) at 5,727 tokens/s, MIP 78.39 at 5,500.",
    run,
)
