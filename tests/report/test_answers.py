"""Answers side by side: what parent and child said, escaped, and a child that repeats itself is named."""

from __future__ import annotations

import dataclasses

from puzzledsl.ir.tables import Answer, AnsweredPrompt, Failure, Problem, Repetition
from puzzledsl.report.artefacts import load_artefacts
from puzzledsl.report.write import render
from tests.report.conftest import Built
from tests.report.test_report import Page


def page_of(built: Built, repetition: Repetition) -> Page:
    answers = {
        "parent": Answer(text=" <b>is</b> a place.\n\nIt is wide.", tokens=9, repetition=0.05),
        "fast": Answer(text=" the the the the the", tokens=64, repetition=0.93),
        "final": Answer(text="", tokens=0, repetition=0.0),
        "greedy": Answer(text="never shown", tokens=2, repetition=0.0),
    }
    prompt = AnsweredPrompt(
        prompt="The sea & more", source="heldout", continuation=" is blue.", answers=answers
    )
    given = AnsweredPrompt(prompt="Why?", answers=answers)
    comparisons = tuple(
        c.model_copy(update={"repetition": repetition}) if c.model == "final" else c
        for c in built.evaluation.comparisons
    )
    found = load_artefacts(built.program, built.build)
    evaluation = built.evaluation.model_copy(update={"answers": (prompt, given), "comparisons": comparisons})
    failure = Failure(stage="export", name="ship", problems=(Problem(code="E0001", message="no <room>"),))
    found = dataclasses.replace(found, evaluations={"all": evaluation}, failures=[failure])
    return Page(render(found, built.source))


def test_answers_stand_side_by_side(built: Built) -> None:
    text = " ".join(
        "".join(page_of(built, Repetition(parent=0.05, child=0.1, remarkable=False)).text).split()
    )
    assert "The sea & more" in text and "<b>is</b> a place. It is wide." in text
    assert "93.0 % of it said before" in text and "the the the the the" in text and "ends at once" in text
    assert "never shown" not in text, "it is no child of this search that is shown"
    assert text.count("How the text goes on") == 1 and "repeats itself" not in text
    assert "export ship failed when it was last tried: E0001: no <room>" in text


def test_a_child_that_repeats_itself_is_named(built: Built) -> None:
    text = " ".join("".join(page_of(built, Repetition(parent=0.05, child=0.5, remarkable=True)).text).split())
    assert (
        "final repeats itself: 50.0 % of the runs of four tokens in its answers were there before, 5.0 % in"
        in text
    )
