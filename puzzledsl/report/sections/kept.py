"""The accuracy that children keep beyond chance, task by task, and texts that disagree on a child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from puzzledsl.ir.tables import Evaluation, Kept
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.subject import Subject

POOLED = "pooled"
AT_CHANCE = "at chance"
TOO_FEW = "not known"
WIDE = 1 / 3
"""Width of the 95 % interval of the accuracy kept, from which on it is no figure to show first: 24 questions said 106.7 %."""


@dataclass(frozen=True)
class KeptRow:
    """One task, or all of them. Of `kept` and `said` (`at chance`) one is there; `interval` is empty where there is none."""

    task: str
    items: int
    parent: Number
    child: Number
    chance: Number
    kept: Number | None
    said: str
    interval: str
    plain: Number | None


@dataclass(frozen=True)
class KeptTable:
    """A child's rows, in one evaluation. `left_out`: tasks on which the parent is at chance."""

    model: str
    evaluation: str
    rows: tuple[KeptRow, ...]
    left_out: str


def pooled(evaluation: Evaluation, model: str) -> Kept | None:
    """The pooled figure of a model, if tasks were measured."""
    found = (
        comparison.kept.get(POOLED) for comparison in evaluation.comparisons if comparison.model == model
    )
    return next(found, None)


def too_wide(kept: Kept) -> bool:
    """True for an interval that says nothing of what is kept, by a child that is not at chance."""
    if kept.verdict != "above_chance":
        return False
    return kept.low is not None and kept.high is not None and kept.high - kept.low > WIDE


def kept_tables(subject: Subject) -> list[KeptTable]:
    """A table for each child that is shown and was asked questions, in order of the evaluations."""
    return [
        KeptTable(
            comparison.model,
            declaration.name,
            tuple(_row(task, kept) for task, kept in pooled_last(comparison.kept)),
            ", ".join(
                t for t, k in comparison.kept.items() if k.verdict == "parent_at_chance" and t != POOLED
            ),
        )
        for declaration, evaluation in subject.evaluations
        for comparison in evaluation.comparisons
        if comparison.model in subject.shown(declaration, evaluation) and comparison.kept
    ]


def pooled_last(kept: Mapping[str, Kept]) -> list[tuple[str, Kept]]:
    """The tasks by name, then all of them together."""
    return sorted(kept.items(), key=lambda item: (item[0] == POOLED, item[0]))


def text_gaps(subject: Subject) -> list[str]:
    """A sentence for each child of the search that is made for one of its texts."""
    return [
        f"{comparison.model} is made for {gap.near}: its KL to the parent is {gap.near_kl:.3g} there and"
        f" {gap.far_kl:.3g} on {gap.far}."
        for _, evaluation in subject.evaluations
        for comparison in evaluation.comparisons
        if comparison.model in subject.children(evaluation) and (gap := comparison.text_gap) is not None
    ]


def interval_text(kept: Kept) -> str:
    """`74.1 … 90.6 %`; empty where nothing can be kept."""
    return "" if kept.low is None or kept.high is None else f"{kept.low * 100:.1f} … {kept.high * 100:.1f} %"


def _row(task: str, kept: Kept) -> KeptRow:
    above = kept.verdict == "above_chance" and kept.chance_corrected is not None
    return KeptRow(
        task=task.replace("_", " "),
        items=kept.items,
        parent=numbers.share(kept.parent),
        child=numbers.share(kept.child),
        chance=numbers.share(kept.chance),
        kept=numbers.share(kept.chance_corrected or 0.0) if above else None,
        said={"above_chance": "", "child_at_chance": AT_CHANCE, "parent_at_chance": "parent at chance"}[
            kept.verdict
        ],
        interval=interval_text(kept),
        plain=None if kept.plain is None else numbers.share(kept.plain),
    )
