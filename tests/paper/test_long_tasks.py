"""Long-context tasks: what is asked stands in the document, guessing gives chance, and a seed gives the same sheets."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from benchmarks.paper.long_tasks import (
    CHOICES,
    COMMONER,
    HAYSTACK,
    KINDS,
    TASKS,
    Material,
    Sheet,
    common_words,
    frequent_words,
    haystack,
    sheets,
)
from puzzledsl.data.tasks import Item

PASSAGES = tuple(
    f"Passage {i} is about water. It says nothing of {i} facts. So it goes on." for i in range(60)
)
QUESTIONS = tuple(
    Item(f"Fact {i} is {i * i}.\nQuestion: What is fact {i}?\nAnswer:", ("1", "2", "3", str(i * i)), 3)
    for i in range(4, 20)
)
WORDS = Material(PASSAGES, QUESTIONS, lambda text: len(text.split()))


def document(sheet: Sheet) -> str:
    """All that stands before the question; the same in all of them."""
    (found,) = {item.context.partition("\n\n")[0] for item in sheet.items}
    return found


def right(item: Item) -> str:
    """The right choice."""
    return item.choices[item.answer]


@pytest.mark.parametrize("length", [128, 256, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_every_sheet_has_its_length_and_four_different_choices(length, seed):
    for sheet in sheets(WORDS, length, 2, seed):
        assert 0.85 * length <= len(document(sheet).split()) <= 1.05 * length
        assert len(sheet.items) == len(sheet.tasks)
        assert all(len(set(item.choices)) == CHOICES for item in sheet.items)


@pytest.mark.parametrize("seed", range(10))
def test_a_reader_of_the_document_finds_every_answer(seed):
    sheet = haystack(WORDS, 300, random.Random(seed))
    text = document(sheet)
    given = dict(re.findall(r"VAR (\w+) = (\w+)\.", text))
    for task, item in zip(sheet.tasks, sheet.items, strict=True):
        question = item.context.rpartition("\n\n")[2]
        if task == "needle":
            assert f"{question} {right(item)}." in text
            assert all(choice in text for choice in item.choices)
        elif task == "variables":
            _, name, _, source, _ = question.split()
            assert given[name] == source and given[source] == right(item)
            assert text.index(f"VAR {source} = ") < text.index(f"VAR {name} = ")
        else:
            assert f"{question.split()[4].rstrip('?')} is {right(item)}." in text
    assert set(sheet.tasks) == set(HAYSTACK)


@pytest.mark.parametrize("make", [common_words, frequent_words])
@pytest.mark.parametrize("seed", range(5))
def test_the_right_word_is_far_more_frequent_than_the_others(make, seed):
    sheet = make(WORDS, 600, random.Random(seed))
    counts = Counter(document(sheet).split())
    for item in sheet.items:
        wrong = [counts[choice] for choice in item.choices if choice != right(item)]
        assert min(wrong) >= 1 and counts[right(item)] >= COMMONER / 2 * max(wrong)


def test_the_place_of_the_answer_says_nothing():
    """SciQ's own questions have their answers where the file has them."""
    made = [
        pair for sheet in sheets(WORDS, 200, 40, 0) for pair in zip(sheet.tasks, sheet.items, strict=True)
    ]
    places = Counter(item.answer for task, item in made if task != "passages")
    total = sum(places.values())
    assert all(0.2 < places[place] / total < 0.3 for place in range(CHOICES))


def test_a_seed_gives_the_same_sheets_and_another_one_others():
    first, again, other = (sheets(WORDS, 200, 2, seed) for seed in (0, 0, 1))
    assert first == again and all(a != b for a, b in zip(first, other, strict=True))
    assert len(first) == 2 * KINDS and {task for sheet in first for task in sheet.tasks} == set(TASKS)
