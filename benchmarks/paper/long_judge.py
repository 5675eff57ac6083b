"""Answers of children to long-context tasks: the share of right answers by length, sheet by sheet, beside its parent's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import torch

from benchmarks.paper.estimate import Estimate, bootstrapped_ratio, exact, mean
from benchmarks.paper.long_tasks import CHOICES, KINDS, TASKS, Material, Sheet, sheets
from benchmarks.paper.study import Study
from puzzledsl.data.tasks import encode_item, read_tasks
from puzzledsl.evaluate.choices import log_likelihoods
from puzzledsl.models.placement import faster_in_bfloat16

CHANCE = 1 / CHOICES

Answers = list[dict[str, float]]
"""One entry a set, which is a sheet of each kind: by task, the share of its questions that are answered rightly."""


@dataclass(frozen=True)
class Judge:
    """Long-context tasks of every length of a study's budget, and which of them say something.

    Attributes:
        sheets: By length.
        parent: The parent's answers, by length.
    """

    sheets: Mapping[int, Sequence[Sheet]]
    parent: Mapping[int, Answers]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the documents, ascending."""
        return tuple(sorted(self.sheets))

    def tasks(self, length: int) -> tuple[str, ...]:
        """Those in which the parent is above chance with 95 % confidence; of others nothing can be kept."""
        return tuple(
            task for task in TASKS if mean([[row[task] for row in self.parent[length]]]).low > CHANCE
        )

    def right(self, answers: Answers, length: int) -> list[float]:
        """For each set the share of right answers, a mean over the tasks that say something at this length."""
        return [_mean([row[task] for task in self.tasks(length)]) for row in answers]

    def kept(self, answers: Answers, length: int) -> Estimate:
        """The child's share of right answers above chance, relative to its parent's; 0 where its parent has none."""
        if not self.tasks(length):
            return exact(0.0)
        child, parent = (self.right(rows, length) for rows in (answers, self.parent[length]))
        return bootstrapped_ratio([value - CHANCE for value in child], [value - CHANCE for value in parent])


def judge_of(study: Study) -> Judge:
    """The sheets of a study's budget, from its held-out text and SciQ, and the parent's answers."""

    @cache
    def tokens(text: str) -> int:
        return len(study.tokenizer(text, add_special_tokens=False)["input_ids"])

    passages = (study.texts / "heldout.txt").read_text(encoding="utf-8").split("\n\n")
    material = Material(passages, read_tasks(study.texts / "sciq.jsonl"), tokens)
    made = {length: sheets(material, length, study.budget.sheets, seed=0) for length in study.budget.lengths}
    return Judge(made, _answers(study, made))


def answers_of(study: Study, judge: Judge, file: str, name: str, **settings: object) -> dict[int, Answers]:
    """A child's answers, by length."""
    return _answers(study, judge.sheets, file, name, **settings)


def _answers(
    study: Study,
    asked: Mapping[int, Sequence[Sheet]],
    file: str | None = None,
    name: str = "",
    **settings: object,
) -> dict[int, Answers]:
    rows = [sheet for length in sorted(asked) for sheet in asked[length]]
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    right = study.measured(
        lambda model, tokenizer: right_answers(model, tokenizer, rows), digest, file, name, **settings
    )
    by_sheet = iter([_by_task(sheet, row) for sheet, row in zip(rows, right, strict=True)])
    return {length: _sets(list(islice(by_sheet, len(asked[length])))) for length in sorted(asked)}


def _sets(by_sheet: Sequence[Mapping[str, float]]) -> Answers:
    """Sheets of every kind put together."""
    starts = range(0, len(by_sheet), KINDS)
    return [
        {task: share for sheet in by_sheet[start : start + KINDS] for task, share in sheet.items()}
        for start in starts
    ]


def right_answers(model: Any, tokenizer: Any, rows: Sequence[Sheet]) -> list[list[bool]]:
    """For each sheet, whether the model's likeliest choice is the right one, question by question.

    In bfloat16 where the processor multiplies it, as `eval` answers tasks with `dtype = bf16`.
    """
    if faster_in_bfloat16(torch.device("cpu")):
        model = model.to(torch.bfloat16)
    found = []
    for sheet in rows:
        encoded = [encode_item(tokenizer, item) for item in sheet.items]
        scores = log_likelihoods(model, encoded, share_context=True)
        found.append(
            [row.index(max(row)) == item.answer for row, item in zip(scores, sheet.items, strict=True)]
        )
    return found


def _by_task(sheet: Sheet, right: Sequence[bool]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for task, value in zip(sheet.tasks, right, strict=True):
        found.setdefault(task, []).append(float(value))
    return {task: _mean(values) for task, values in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else CHANCE
