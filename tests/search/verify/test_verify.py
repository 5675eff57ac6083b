"""`verify` accepts every answer of the solver and rejects every corrupted one; it needs no solver."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.structure import LIMIT_S
from benchmarks.structure_checks import Loaded
from benchmarks.structure_form import Form
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.structure_text import ENDS, SMALL, Child
from puzzledsl.costs.metrics import fits
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.ir.references import places_of
from puzzledsl.ir.tables import Assignment, EndsAssignment, LayerAssignment, Solution
from puzzledsl.search.answer import solution_of
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify import Violation, verify
from tests.cases import more
from tests.oracles import acceptable, all_children, children_at_own_batches, violations
from tests.search.auto_instances import auto_searches
from tests.search.instances import ATTENTION, FFN, Instance, chat, plain_instance, problems, quick, require
from tests.search.run_instances import run_searches
from tests.search.test_traffic import every_child, is_right, question, read, scores


def solved(instance: Instance) -> Solution:
    result = solve_search(*instance.args)
    assume(result.solutions)
    return result.solutions[0]


@quick(25)
@given(problems(max_layers=3))
def test_verify_says_of_every_child_whether_it_is_acceptable(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    for child in all_children(tables):
        solution = solution_of(tables, child.layers, dict(child.batches))
        assert (violations(*instance.args, solution) == []) == acceptable(child)


@pytest.mark.parametrize("strategy", [problems(), run_searches()], ids=["any", "runs"])
@quick(25)
@given(st.data())
def test_another_choice_with_the_old_figures_is_found_out(
    strategy: st.SearchStrategy[Instance], data: st.DataObject
) -> None:
    instance = data.draw(strategy)
    solution, tables = solved(instance), tables_of(*instance.args)
    layer = data.draw(st.integers(0, len(solution.layers) - 1))
    attention, ffn = (
        data.draw(st.sampled_from(names)).name
        for names in (tables.layers[layer].attention, tables.layers[layer].ffn)
    )
    other = LayerAssignment(attention=attention, ffn=ffn)
    layers = (*solution.layers[:layer], other, *solution.layers[layer + 1 :])
    corrupted = solution.model_copy(update={"layers": layers})
    right = solution_of(tables, layers, {name: solution.batches[name] for name in tables.scenarios})
    assume(right != corrupted or violations(*instance.args, right))
    assert violations(*instance.args, corrupted)


@quick(25)
@given(problems(), st.data(), st.sampled_from([-1.0, 1.0, 1e-6]))
def test_any_changed_figure_is_found_out(instance: Instance, data: st.DataObject, by: float) -> None:
    solution = solved(instance)
    name = data.draw(st.sampled_from(["objective", *sorted(solution.metrics)]))
    if name == "objective":
        corrupted = solution.model_copy(update={"objective": solution.objective + by})
        assume(corrupted.objective != solution.objective)
    else:
        changed = {**solution.metrics, name: solution.metrics[name] + by}
        assume(changed != solution.metrics)
        corrupted = solution.model_copy(update={"metrics": changed})
    assert violations(*instance.args, corrupted)


def test_verifying_imports_no_solver_and_no_array_library() -> None:
    code = "import sys, puzzledsl.search.verify; print({'ortools', 'numpy', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


TWO_LAYERS = (LayerChoice(attention=(ATTENTION[0], ATTENTION[4]), ffn=(FFN[0], FFN[4])),) * 2
PARENT = LayerAssignment(attention="parent", ffn="parent")
NOOP = LayerAssignment(attention="noop", ffn="noop")


def roomy(capacity_bytes: int | None = None, batches: tuple[int, ...] = (2,), **search: Any) -> Instance:
    """Two layers, a scenario that the search mentions, the batch among `batches`, the largest that fits."""
    search.setdefault("requirements", (require(chat("memory"), "<=", 10**9, line=3),))
    instance = plain_instance(TWO_LAYERS, **search)
    (only,) = instance.costs.scenarios["chat"]
    entries = tuple(
        only.model_copy(update={"batch": batch, "capacity_bytes": capacity_bytes, "reserve_bytes": batch})
        for batch in batches
    )
    return replace(instance, costs=instance.costs.model_copy(update={"scenarios": {"chat": entries}}))


def honest(instance: Instance, *layers: LayerAssignment, batch: int = 2) -> Solution:
    """Any child's own figures."""
    return solution_of(tables_of(*instance.args), layers, {"chat": batch})


def said(instance: Instance, solution: Solution, **changes: Any) -> list[tuple[str, str]]:
    """Kind and message of every violation."""
    return [(v.kind, v.message) for v in violations(*instance.args, solution.model_copy(update=changes))]


def test_what_is_not_there_is_named() -> None:
    instance, right = roomy(), honest(roomy(), PARENT, NOOP)
    wrong = LayerAssignment(attention="gqa2", ffn="mlp16")
    assert said(instance, right, layers=(PARENT,)) == [("shape", "1 layers instead of 2")]
    assert said(instance, right, layers=(NOOP, wrong)) == [
        ("choice", "layer 1 may not have attention gqa2"), ("choice", "layer 1 may not have ffn mlp16"),
    ]  # fmt: skip
    assert said(instance, right, batches={}) == [("batch", "scenario chat has no batch None")]
    other = {"chat": 2, "other": 5}
    assert said(instance, right, batches=other) == [("batch", f"the batches are {{'chat': 2}}, not {other}")]


def test_a_batch_that_does_not_fit_or_leaves_room_is_named() -> None:
    memory = int(honest(roomy(), PARENT, NOOP).metrics["chat.memory"])  # two bytes of it for the batch of two
    for capacity, right, wrong in ((memory + 1, 2, 4), (memory + 2, 4, 2)):
        instance = roomy(capacity, (2, 4))
        assert violations(*instance.args, honest(instance, PARENT, NOOP, batch=right)) == []
        found = said(instance, honest(instance, PARENT, NOOP, batch=wrong))
        assert found == [("batch", f"batch {wrong} of scenario chat is not the largest that fits")]


# ---------------------------------------------------------------- batches


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


# ---------------------------------------------------------------- searches as text


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
            found = complaints_of(loaded, child)
            assert (found == []) == text.meaning.holds(child), found
            met += not found
    assert met


def complaints_of(loaded: Loaded, child: Child) -> list[Violation]:
    """The verifier's, of a child with the figures that the solver's own evaluation gives it."""
    tables = tables_of(loaded.ir, "best", loaded.costs, loaded.scores)
    layers = [LayerAssignment(attention=layer.attention, ffn=layer.ffn) for layer in child]
    ends = [EndsAssignment(embedding=child.ends[0], head=child.ends[1])] * loaded.text.world.ends
    return complaints(tables, (*layers, *ends), {name: child.batches[name] for name in tables.scenarios})
