"""Table 10: the whole space against one where sub-blocks are only kept or left out, under the same requirement."""

from __future__ import annotations

from benchmarks.paper.result import Result, Table
from benchmarks.paper.speedups import against_exact
from benchmarks.paper.study import Study


def run(study: Study) -> Result:
    """The loss of both children at each speed-up."""
    statement = "the whole space loses less than removals alone"
    return against_exact(study, TABLE.program, "removals", statement, "removals")


TABLE = Table(
    "table10",
    "Table 10",
    "What do narrower sub-blocks give beside removals?",
    "MMLU before uptraining: no-ops alone 75.40 at 5,604 tokens/s, the whole space 78.39 at 5,500.",
    run,
)
