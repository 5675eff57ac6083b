"""The verifier and batches: the largest that fits, and the least that sustains a rate, are the only right ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given

from puzzledsl.costs.metrics import fits
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.references import places_of
from puzzledsl.ir.tables import Assignment
from puzzledsl.search.answer import solution_of
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify.verify import Violation, verify
from tests.cases import more
from tests.oracles import children_at_own_batches
from tests.search.auto_instances import auto_searches
from tests.search.instances import Instance, quick
from tests.search.test_traffic import every_child, is_right, question, read, scores


@quick(40)
@given(auto_searches())
def test_of_any_batch_on_a_profile_the_largest_is_right(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    for child in [*children_at_own_batches(tables)][::7]:
        own = dict(child.batches)
        met = all(child.meets(requirement) for requirement in tables.search.requirements)
        assert (complaints(tables, child.layers, own) == []) == met
        for name in own:
            for other in {own[name] - 1, own[name] + 1} & {*tables.candidates(name)}:
                wrong = complaints(tables, child.layers, {**own, name: other})
                assert "batch" in {each.kind for each in wrong}


@pytest.mark.parametrize("seed", [0, 1, *more(2, 3, 4, 5)])
def test_under_traffic_the_least_that_sustains_it_is_right(tmp_path: Path, seed: int) -> None:
    asked = question(tmp_path, seed)
    program = read(tmp_path, asked.text)
    costs = cost_table(program, "w")
    tables = tables_of(program, "s", costs, {"kl": scores()})
    every = [*every_child(costs, asked.traffic)]
    for child in every[::9]:
        batches = {name: least(tables, name, child.layers) for name in places_of(tables.search)}
        found = complaints(tables, child.layers, batches)
        assert (found == []) == is_right(asked, child, every[0]), found
        for name, batch in batches.items():
            for other in {batch - 1, batch + 1} & {*tables.candidates(name)}:
                is_own = tables.costs.scenarios[name][0].is_own
                assert not is_own or complaints(tables, child.layers, {**batches, name: other})


def least(tables: Tables, name: str, layers: Sequence[Assignment]) -> int:
    """The least number of sequences that fits, else the most."""
    numbers = tables.candidates(name)
    return next((n for n in numbers if fits(tables.at(name, n), layers)), max(numbers))


def complaints(tables: Tables, layers: Sequence[Assignment], batches: dict[str, int]) -> list[Violation]:
    solution = solution_of(tables, layers, batches)
    return verify(tables.program, tables.search, tables.costs, tables.scores, solution)
