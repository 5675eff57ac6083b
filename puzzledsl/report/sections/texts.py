"""Texts of a program: documents and tokens of each source, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir.tables import TextCounts
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number


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
