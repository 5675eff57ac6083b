"""Texts of a program, and prompts that parent and child answered, side by side.

Prompts that parent and child answered, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir.tables import AnsweredPrompt, TextCounts
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number
from puzzledsl.report.subject import PARENT, Subject


@dataclass(frozen=True)
class TextRow:
    """One source of a text. `counted`: tokens that losses count, None if they count all."""

    data: str
    source: str
    documents: Number
    tokens: Number
    counted: Number | None
    left_out: str


def text_rows(found: Artefacts) -> list[TextRow]:
    """Return a row for each source that was tokenised, in the order of the declarations."""
    return [
        TextRow(
            data=name,
            source="" if counts.name == name else counts.name,
            documents=numbers.count(counts.documents),
            tokens=numbers.count(counts.tokens),
            counted=numbers.count(counts.learned_tokens) if counts.learned_tokens != counts.tokens else None,
            left_out=_left_out(counts),
        )
        for name, sources in found.texts.items()
        for counts in sources
    ]


def _left_out(counts: TextCounts) -> str:
    parts = {
        "exact copies": counts.duplicates if counts.copies_dropped else 0,
        "conversations without an answer": counts.unanswered,
        "documents of other parts": counts.other_part,
    }
    words = [f"{number:,} {what}" for what, number in parts.items() if number]
    return ", ".join([*words, *(["what follows these tokens"] if counts.stopped else [])])


NOTED = 0.3
"""An answer of which so much was said before is marked."""


@dataclass(frozen=True)
class Said:
    """One model's answer. `repeated`: the share of it that was said before, where that is much."""

    model: str
    text: str
    repeated: str


@dataclass(frozen=True)
class Row:
    """A prompt, where it is from, how its text goes on, and an answer from each model, the parent first."""

    prompt: str
    source: str
    continuation: str
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Answers:
    """The prompts of one evaluation."""

    evaluation: str
    rows: tuple[Row, ...]


def answers(subject: Subject) -> list[Answers]:
    """Return the prompts of each evaluation that has answers of this search's child."""
    found = []
    for declaration, evaluation in subject.evaluations:
        models = (PARENT, *subject.shown(declaration, evaluation))
        rows = tuple(_row(each, models) for each in evaluation.answers)
        if any(len(row.said) > 1 for row in rows):
            found.append(Answers(declaration.name, rows))
    return found


def repetitions(subject: Subject) -> list[str]:
    """Return a sentence for each child of the search that repeats itself much more than its parent."""
    return [
        f"{comparison.model} repeats itself: {numbers.share(said.child).text} of the runs of four tokens in its answers were "
        f"there before, {numbers.share(said.parent).text} in its parent's."
        for _, evaluation in subject.evaluations
        for comparison in evaluation.comparisons
        if comparison.model in subject.children(evaluation)
        and (said := comparison.repetition) is not None
        and said.remarkable
    ]


def _row(found: AnsweredPrompt, models: tuple[str, ...]) -> Row:
    said = tuple(
        Said(model, answer.text.strip(), _repeated(answer.repetition))
        for model in models
        if (answer := found.answers.get(model)) is not None
    )
    return Row(found.prompt.strip(), found.source, found.continuation.strip(), said)


def _repeated(share: float) -> str:
    return f"{numbers.share(share).text} of it said before" if share > NOTED else ""
