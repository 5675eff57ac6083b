"""Conflict of a question: requirements that exclude each other, and the smallest way out, by their places on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from puzzledsl.explore.bounds import unit_of
from puzzledsl.explore.question import Question
from puzzledsl.explore.sheet import Sheet
from puzzledsl.ir.search_nodes import written
from puzzledsl.search.infeasible.verdicts import requirements_by_place

if TYPE_CHECKING:
    from puzzledsl.api.answer import Answer


def conflict_view(sheet: Sheet, question: Question, answer: Answer) -> dict[str, Any]:
    """Requirements that exclude each other, by statement or choice, and the bounds that would do."""
    result = answer.result
    places = requirements_by_place(answer.subject.search)
    owners = _owners(sheet, question)
    items = []
    for item in result.conflict:
        requirement = places[item.line, item.text]
        owner = owners(item.text, item.line)
        items.append({**owner, "text": written(requirement), "reachable": item.reachable})
    changes = [] if result.relaxation is None else result.relaxation.changes
    fixes = []
    for change in changes:
        owner = owners(change.text, change.line)
        number = _adjustable(sheet, owner.get("statement"), change.bound)
        fixes.append({**owner, "bound": change.bound, "number": number})
    return {"items": items, "advice": answer.advice, "fixes": fixes}


def _owners(sheet: Sheet, question: Question) -> Any:
    """Return a function from the text and line of a requirement to its statement or choice."""
    stated = sheet.stated(question)
    statements = {(r.where.text, r.where.line): number for number, own in stated.items() for r in own}
    choices = {sheet.condition(choice): i for i, choice in enumerate(question.choices)}

    def owner(text: str, line: int) -> dict[str, Any]:
        if (text, line) in statements:
            return {"statement": statements[text, line]}
        return {"choice": choices[text]} if text in choices else {}

    return owner


def _adjustable(sheet: Sheet, statement: int | None, text: str | None) -> int | None:
    """Return the bound that a new literal is for, if it is clear which."""
    if statement is None or text is None:
        return None
    own = [b for b in sheet.statements[statement].bounds if b.scale is not None and unit_of(text) == b.unit]
    return own[0].number if len(own) == 1 else None
