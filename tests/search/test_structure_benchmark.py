"""The benchmark of searches as text covers the language, its programs mean what they say, and a slice of it is solved."""

from pathlib import Path

import pytest

from benchmarks.structure import LIMIT_S, SEEDS
from benchmarks.structure_checks import Loaded
from benchmarks.structure_form import Form
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import Text, texts_of
from benchmarks.structure_text import SMALL

PLAIN = [form for form in FORMS.values() if not form.join]
# a tie, an order, a window, a count, runs, distinct values, weighted sums, preferences, several answers, ends
SLICE = (
    "widths_tied", "heads_never_grow", "few_gaps_in_four", "gaps_counted", "one_gap_or_short_ones", "two_attentions",
    "weighted_by_depth", "preferences", "several_answers", "full_embedding_or_full_middle",
)  # fmt: skip


def small(form: Form, seed: int = 0) -> list[Text]:
    """All ways of a form, of four layers with nine pairs each or few more."""
    return texts_of(form, 4, seed, LIMIT_S, SMALL)


# ---------------------------------------------------------------- a slice of it


@pytest.mark.parametrize("form", SLICE)
def test_all_ways_of_a_form_give_the_best_of_all_children(form: str, tmp_path: Path) -> None:
    check(FORMS[form], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", PLAIN, ids=lambda form: form.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_all_ways_of_all_forms_do(form: Form, seed: int, tmp_path: Path) -> None:
    check(form, tmp_path, seed)


def check(form: Form, folder: Path, seed: int = 0) -> None:
    """Every way has the best answer of all, and CP-SAT has it too."""
    answers = []
    for text in small(form, seed):
        loaded = Loaded(text, folder / text.way)
        result = loaded.solve()
        assert answers or loaded.against_all(result) == "", text.text  # all ways give the answer of the first
        assert loaded.mistakes(result, LIMIT_S) == ([], False), text.text
        answers.append([s.layers for s in result.solutions])
    assert all(each == answers[0] for each in answers), answers
