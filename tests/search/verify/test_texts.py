"""The verifier accepts exactly the children that a text means, in every form of docs/language.md, with their own figures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from random import Random

import pytest

from benchmarks.structure import LIMIT_S
from benchmarks.structure_checks import Loaded
from benchmarks.structure_form import Form
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.structure_text import ENDS, SMALL, Child
from puzzledsl.ir.tables import EndsAssignment, LayerAssignment
from puzzledsl.search.answer import solution_of
from puzzledsl.search.tables import tables_of
from tests.oracles import violations

PLAIN = [form for form in FORMS.values() if not form.join]
OF_EACH = 8


def drawn(loaded: Loaded, rng: Random) -> Iterator[Child]:
    """All children once, in any order, at any listed batches; first those with few layers changed."""
    world = loaded.tables
    batches = {name: [each["batch"] for each in costs] for name, costs in world.costs["scenarios"].items()}
    parent = [each[0] for each in world.choices]
    nearly = [
        [*parent[:i], other, *parent[i + 1 :]] for i, each in enumerate(world.choices) for other in each
    ]
    every = [*map(list, product(*world.choices))]
    for layers in (*rng.sample(nearly, 8), *rng.sample(every, len(every))):
        ends = rng.choice(ENDS) if loaded.text.world.ends else ENDS[0]
        yield Child(world, layers, {name: rng.choice(of) for name, of in batches.items()}, ends)


@pytest.mark.parametrize("form", PLAIN, ids=lambda form: form.name)
def test_what_a_text_means_is_what_is_accepted(form: Form, tmp_path: Path) -> None:
    """As many children that are meant are tried as others, where there are so many; the first way and the last, in two worlds."""
    met = 0
    for seed, way in ((1, 0), (2, -1)):
        text = texts_of(form, 4, seed, LIMIT_S, SMALL)[way]
        loaded, rng = Loaded(text, tmp_path / str(seed)), Random(text.name)
        meant = (child for child in drawn(loaded, rng) if text.meaning.holds(child))
        others = (child for child in drawn(loaded, rng) if not text.meaning.holds(child))
        for child in (*islice(meant, OF_EACH), *islice(others, OF_EACH)):
            found = complaints(loaded, child)
            assert (found == []) == text.meaning.holds(child), found
            met += not found
    assert met


def complaints(loaded: Loaded, child: Child) -> list[str]:
    """The verifier's, of a child with the figures that the solver's own evaluation gives it."""
    args = loaded.ir, "best", loaded.costs, loaded.scores
    layers = [LayerAssignment(attention=layer.attention, ffn=layer.ffn) for layer in child]
    ends = [EndsAssignment(embedding=child.ends[0], head=child.ends[1])] * loaded.text.world.ends
    tables = tables_of(*args)
    batches = {name: child.batches[name] for name in tables.scenarios}
    return [each.message for each in violations(*args, solution_of(tables, (*layers, *ends), batches))]
