"""Regrets of searches as text with ties, orderings, windows, runs and counts are those of all children."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from benchmarks.structure_checks import Loaded
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.structure_text import SMALL, Child
from puzzledsl.ir.tables import WhyResult
from puzzledsl.search.sensitivity.why import why_search

Key = tuple[int, str, str]
STRUCTURE = "heads_tied tied_in_groups heads_never_grow few_gaps_in_four two_gaps gaps_counted".split()


def best_with_each(loaded: Loaded) -> dict[Key, Fraction]:
    """The least score of a child with each alternative, by trying all children."""
    tables, meaning, best = loaded.tables, loaded.text.meaning, dict[Key, Fraction]()
    for layers in product(*tables.choices):
        child = Child(tables, layers, tables.first_batches)
        if meaning.holds(child):
            value = Fraction(meaning.value(child))
            for it in layers:
                for key in ((it.index, "attention", it.attention), (it.index, "ffn", it.ffn)):
                    best[key] = min(value, best.get(key, value))
    return best


@pytest.mark.parametrize("form", STRUCTURE)
def test_regrets_are_those_of_all_children(form: str, tmp_path: Path) -> None:
    loaded = Loaded(texts_of(FORMS[form], 4, 0, 60.0, SMALL)[0], tmp_path)
    result = why_search(loaded.ir, "best", loaded.costs, loaded.scores)
    assert isinstance(result, WhyResult)
    best = best_with_each(loaded)
    optimum, pins = min(best.values()), 0
    for site in result.sub_blocks:
        for regret in site.regrets:
            value = best.get((site.layer, site.sub_block, regret.alternative))
            expected = None if value is None else pytest.approx(float(value - optimum), abs=1e-12)
            assert regret.at_least == expected and regret.at_most == expected, (site.layer, regret)
            pins += 1
    assert pins >= len(best) > 4
