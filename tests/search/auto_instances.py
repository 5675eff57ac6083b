"""Small searches whose scenarios run at any batch on a profile, with an oracle that tries every one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from random import Random

from hypothesis import strategies as st

from puzzledsl.alternatives.shape import LAYER_FIELDS
from puzzledsl.costs.metrics import fits
from puzzledsl.costs.roofline import AnyBatch
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import (
    CountTerm,
    Hardware,
    Linear,
    MetricTerm,
    ParamsTerm,
    Preference,
    Requirement,
    Space,
    Term,
    WeightedTerm,
)
from puzzledsl.ir.tables import LayerAssignment, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import Tables, tables_of
from tests.profiles import HERE, a_child, a_profile, a_scenario, any_batch, mixed_any_batch, with_memory
from tests.search.instances import KL, Instance, alone, program_of, require

SCENARIOS = ("chat", "rag")


@st.composite
def auto_searches(draw: st.DrawFn, most: int = 24) -> Instance:
    """A search with one or two scenarios at any batch up to `most`; requirements are near what some model has at its own."""
    rng = Random(draw(st.integers(0, 10**6)))
    names = SCENARIOS[: draw(st.integers(1, 2))]
    instance = an_instance(rng, names, most, mixed=draw(st.booleans()))
    instance = instance.with_search(
        objective=_a_linear(rng, names),
        sense=rng.choice(["minimize", "maximize"]),
        preferences=tuple(
            Preference(goal=_a_linear(rng, names), sense=rng.choice(["minimize", "maximize"]), where=HERE)
            for _ in range(rng.randint(0, 1))
        ),
    )
    requirements = [_a_requirement(rng, instance, names, line) for line in range(draw(st.integers(0, 3)))]
    return instance.with_search(requirements=tuple(r for r in requirements if r is not None))


def an_instance(rng: Random, names: tuple[str, ...], most: int, *, mixed: bool = False) -> Instance:
    """A program with a profile for each scenario, its costs, and a score table. `mixed`: layers of any kinds."""
    first = mixed_any_batch(rng, most) if mixed else any_batch(rng, most)
    layers = first.layers[:3]
    kept = [{name: getattr(own, name) for name in LAYER_FIELDS} for own in first.shape.each[:3]]
    shape = first.shape.with_layers(kept)
    program = program_of(layers, ())
    parent = program.parents["tiny"].model_copy(update={"shape": shape})
    hardware, scenarios = {}, {}
    for name in names:
        made = AnyBatch(
            a_profile(rng, rng.randint(1, most)), shape, layers, a_scenario(rng, name, f"{name}_card")
        )
        made = with_memory(made, rng)
        hardware[f"{name}_card"] = Hardware(name=f"{name}_card", spec=made.hardware, where=HERE)
        scenarios[name] = made.scenario
    program = program.model_copy(
        update={"parents": {"tiny": parent}, "hardware": hardware, "scenarios": scenarios}
    )
    return Instance(program, cost_table(program, "wide"), {"kl": _scores(rng, program.spaces["wide"])})


def _scores(rng: Random, space: Space) -> ScoreTable:
    coarse = rng.random() < 0.5

    def score(name: str) -> float:
        if name == "parent":
            return 0.0
        return rng.randint(0, 5) / 10 if coarse else rng.randint(1, 3000) / 1000

    return ScoreTable(
        score="kl",
        metric="kl_divergence",
        samples=1,
        attention=tuple({a.name: score(a.name) for a in c.attention} for c in space.layers),
        ffn=tuple({f.name: score(f.name) for f in c.ffn} for c in space.layers),
    )


def _a_term(rng: Random, names: tuple[str, ...]) -> Term:
    pick = rng.random()
    if pick < 0.25:
        return KL
    if pick < 0.3:
        return ParamsTerm()
    if pick < 0.35:
        return CountTerm(sub_block="attention", alternatives=("noop",), layers=(0,))
    return MetricTerm.model_validate(
        {"scenario": rng.choice(names), "metric": rng.choice([*TERMS, "throughput", "batch"])}
    )


def _a_linear(rng: Random, names: tuple[str, ...]) -> Linear:
    first = _a_term(rng, names)
    if rng.random() < 0.7 or _is_throughput(first):
        return alone(first)
    second = _a_term(rng, names)
    if _is_throughput(second):
        return alone(second)
    factors = [Fraction(1), Fraction(-2), Fraction(1, 3), Fraction(10**6)]
    terms = tuple(WeightedTerm(coefficient=rng.choice(factors), term=term) for term in (first, second))
    return Linear(terms=terms, constant=rng.choice([Fraction(0), Fraction(3, 2)]))


def _is_throughput(term: Term) -> bool:
    return isinstance(term, MetricTerm) and term.metric == "throughput"


def _a_requirement(rng: Random, instance: Instance, names: tuple[str, ...], line: int) -> Requirement | None:
    left = _a_linear(rng, names)
    tables = tables_of(*instance.with_search(objective=left, requirements=(), preferences=()).args)
    layers = a_child(tables.layers, rng)
    batches = own_batches(tables, layers)
    child = Child(tables, layers, {name: max(1, batches[name]) for name in tables.scenarios})
    value, parent = child.linear(left), child.parent().linear(left)
    op = rng.choice(["<=", ">=", "<=", ">=", "<", ">"])
    is_batch = any(isinstance(w.term, MetricTerm) and w.term.metric == "batch" for w in left.terms)
    if parent > 0 and rng.random() < 0.4 and not is_batch:
        return require(left, op, ratio=value / parent, line=line)
    nudge = rng.choice([Fraction(0), Fraction(0), Fraction(1, 10), Fraction(-1, 10)])
    return require(left, op, value * (1 + nudge), line=line)


# ---------------------------------------------------------------- the oracle


def own_batches(tables: Tables, layers: tuple[LayerAssignment, ...]) -> dict[str, int]:
    """Each scenario's largest batch that fits, every one tried; 0 where none does."""
    return {
        name: max((b for b in tables.candidates(name) if fits(tables.at(name, b), layers)), default=0)
        for name in tables.scenarios
    }


def all_children(tables: Tables) -> Iterator[Child]:
    """Every model that fits, at its own batches, in the order of the space."""
    per_layer = [
        [LayerAssignment(attention=a.name, ffn=f.name) for a, f in product(c.attention, c.ffn)]
        for c in tables.layers
    ]
    for layers in product(*per_layer):
        batches = own_batches(tables, layers)
        if all(batches.values()):
            yield Child(tables, layers, batches)


def best_of_all(instance: Instance) -> Child | None:
    """The best model that meets every requirement: by goal, preferences, smallest batches, order of the space."""
    tables, best = tables_of(*instance.args), None
    search = tables.search
    goals = [(search.objective, search.sense), *((p.goal, p.sense) for p in search.preferences)]
    for child in all_children(tables):
        if not all(child.meets(r) for r in search.requirements):
            continue
        ranks = [child.linear(goal) * (1 if sense == "minimize" else -1) for goal, sense in goals]
        key = ranks, tuple(child.batches[name] for name in tables.scenarios)
        if best is None or key < best[0]:
            best = key, child
    return None if best is None else best[1]
