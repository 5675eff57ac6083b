"""The linear model of a child's loss: the table's sum before anything is measured, the measurements where there are enough."""

from random import Random

import pytest

from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.ir.tables import LayerAssignment, ScoreTable
from puzzledsl.refining.surrogate import LEAST, Surrogate
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of
from tests.cases import cases, more
from tests.refining.cases import instance
from tests.search.instances import KL, Instance
from tests.search.run_instances import children_of, run_instance


def surrogate_of(made: Instance) -> Surrogate:
    return Surrogate(made.scores["kl"], tables_of(*made.args).dropped())


def some_children(made: Instance, number: int, seed: int) -> list[Child]:
    tables, rng = tables_of(*made.args), Random(seed)
    batches = {name: tables.candidates(name)[0] for name in tables.scenarios}

    def drawn(choice: LayerChoice) -> LayerAssignment:
        names = rng.choice(choice.attention).name, rng.choice(choice.ffn).name
        return LayerAssignment(attention=names[0], ffn=names[1])

    return [Child(tables, tuple(map(drawn, tables.layers)), batches) for _ in range(number)]


@pytest.mark.drawn
@pytest.mark.parametrize("seed", range(cases(20)))
def test_before_measurements_it_predicts_the_sum_of_the_table(seed: int) -> None:
    """Runs included: the same sum that the search minimises."""
    made = run_instance(seed)
    surrogate = surrogate_of(made)
    for child in children_of(made)[:200]:
        mean, stderr = surrogate.predict(child.layers)
        assert mean == pytest.approx(float(child.term(KL)), abs=1e-12)
        assert stderr >= 0


@pytest.mark.parametrize("seed", [0, 1, *more(2, 3, 4)])
def test_the_refitted_table_sums_to_its_predictions(seed: int) -> None:
    """The solver optimises what the model predicts, as long as no entry is at its least."""
    made = instance(seed)
    surrogate = surrogate_of(made)
    for child in some_children(made, 6, seed):
        surrogate.tell(child.layers, 1.2 * float(child.term(KL)))
    table = surrogate.table()
    refitted = Instance(made.program, made.costs, {"kl": table})
    tables = tables_of(*refitted.args)
    for child in some_children(made, 50, seed + 100):
        again = Child(tables, child.layers, child.batches)
        mean, _ = surrogate.predict(child.layers)
        assert float(again.term(KL)) == pytest.approx(mean, rel=1e-9)


def test_no_entry_becomes_free() -> None:
    """Nor negative, whatever was measured."""

    def values(table: ScoreTable) -> list[float]:
        layers = (*table.attention, *table.ffn)
        entries = [value for layer in layers for name, value in sorted(layer.items()) if name != "parent"]
        return [*entries, *(run.value for run in table.runs)]

    made = instance(2)
    surrogate = surrogate_of(made)
    for child in some_children(made, 10, 7):
        surrogate.tell(child.layers, 1e-6)
    for old, new in zip(values(made.scores["kl"]), values(surrogate.table()), strict=True):
        assert new >= LEAST * old > 0
