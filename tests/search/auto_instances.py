"""Small searches whose scenarios run at any batch on a profile."""

from random import Random
from typing import Any

from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.alternatives.shape import LAYER_FIELDS
from puzzledsl.costs.roofline import AnyBatch
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.nodes import CountTerm, Hardware, MetricTerm, ParamsTerm, Space, Term
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import Tables
from tests.oracles import own_batches
from tests.profiles import HERE, a_child, a_profile, a_scenario, any_batch, mixed_any_batch, with_memory
from tests.search.instances import KL, Instance, program_of, with_random_search

SCENARIOS = ("chat", "rag")


def auto_searches(most: int = 24) -> st.SearchStrategy[Instance]:
    """A search with one or two scenarios at any batch up to `most`; requirements are near what some model has at its own."""

    def drawn(seed: int) -> Instance:
        rng = Random(seed)
        names = SCENARIOS[: rng.randint(1, 2)]
        instance = an_instance(rng, names, most, mixed=rng.random() < 0.5)

        def some_child(tables: Tables) -> Child:
            layers = a_child(tables.layers, rng)
            batches = own_batches(tables, layers)
            return Child(tables, layers, {name: max(1, batch) for name, batch in batches.items()})

        given = {"logic": False, "ops": ("<=", ">=", "<=", ">=", "<", ">")}
        return with_random_search(rng, instance, lambda: _a_term(rng, names), some_child, **given)

    return st.builds(drawn, st.integers(0, 10**6))


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
        profile, scenario = a_profile(rng, rng.randint(1, most)), a_scenario(rng, name, f"{name}_card")
        made = with_memory(AnyBatch(profile, shape, layers, scenario), rng)
        hardware[f"{name}_card"] = Hardware(name=f"{name}_card", spec=made.hardware, where=HERE)
        scenarios[name] = made.scenario
    program = program.model_copy(
        update={"parents": {"tiny": parent}, "hardware": hardware, "scenarios": scenarios}
    )
    return Instance(program, cost_table(program, "wide"), {"kl": _scores(rng, program.spaces["wide"])})


def _scores(rng: Random, space: Space) -> ScoreTable:
    most, unit = (5, 10) if rng.random() < 0.5 else (3000, 1000)
    parts: dict[str, Any] = {
        part: tuple(
            {a.name: rng.randint(1, most) / unit for a in getattr(c, part) if not a.is_parent}
            for c in space.layers
        )
        for part in SUB_BLOCKS
    }
    return ScoreTable(score="kl", metric="kl_divergence", samples=1, **parts)


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
