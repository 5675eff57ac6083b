"""Small searches with scores of runs of dropped layers."""

from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import And, Is, LayerChoice, LogicRequirement, ParamsTerm
from puzzledsl.ir.tables import RunScore
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of
from tests.oracles import all_children
from tests.search.instances import (
    KL,
    Instance,
    alone,
    at,
    problems,
    program_of,
    random_costs,
    random_scores,
    require,
)

BOTH = (ParentAttention(), NoOpAttention())
FREE = LayerChoice(attention=BOTH, ffn=(ParentFfn(), NoOpFfn()))
NARROW = LayerChoice(attention=BOTH, ffn=(NoOpFfn(), LinearFfn()))
KEPT = LayerChoice(attention=BOTH, ffn=(ParentFfn(), MlpFfn(width=8)))
ONE_ATTENTION = LayerChoice(attention=BOTH, ffn=(ParentFfn(),))
ONE_FFN = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), NoOpFfn()))
"""Layers of one sub-block, which is all that goes when they are dropped."""


def dropped(layer: int) -> nodes.Logic:
    """Neither sub-block of a layer is left."""
    return And(operands=tuple(Is(layer=layer, sub_block=s, alternatives=("noop",)) for s in SUB_BLOCKS))


def with_runs(instance: Instance, runs: Sequence[RunScore]) -> Instance:
    """The same with scores of runs."""
    table = instance.scores["kl"].model_copy(update={"runs": tuple(runs)})
    return Instance(instance.program, instance.costs, {"kl": table})


def drawn_runs(rng: Random, layers: int, longest: int, exact: bool = True) -> list[RunScore]:
    """Scores of most runs of 2 to `longest` layers, some of them negative; `exact`: of few decimals."""
    return [
        RunScore(first=first, length=length, value=rng.randint(-500, 3000) / (1000 if exact else 997))
        for first in range(layers)
        for length in range(2, longest + 1)
        if first + length <= layers and rng.random() < 0.9
    ]


def run_searches(exact: bool = True) -> st.SearchStrategy[Instance]:
    """Any small search, at any batches, with preferences and formulas, and with scores of runs."""

    def drawn(instance: Instance, seed: int) -> Instance:
        rng = Random(seed)
        return with_runs(instance, drawn_runs(rng, len(instance.layers), rng.randint(2, 4), exact=exact))

    return st.builds(drawn, problems(exact=exact, droppable=True), st.integers(0, 10**6))


def _in_parent(program: nodes.Program, layers: Sequence[LayerChoice]) -> nodes.Program:
    """The program with a parent whose layers of one sub-block have no other."""
    parent = program.parents["tiny"]
    kinds = [
        {
            "mixer": "none" if choice == ONE_FFN else "attention",
            "ffn": "none" if choice == ONE_ATTENTION else "dense",
        }
        for choice in layers
    ]
    parent = parent.model_copy(update={"shape": parent.shape.with_layers(kinds)})
    return program.model_copy(update={"parents": {"tiny": parent}})


def run_instance(seed: int) -> Instance:
    """Two to six layers, most of which can be dropped; runs of up to two to four layers are scored. A seed always gives the same.

    Parameters are required; sometimes a score or a structure too. Sometimes several answers are asked for.
    """
    rng = Random(seed)
    kinds = (FREE, NARROW, KEPT, ONE_ATTENTION, ONE_FFN)
    weights = (7, 2, 1, 2, 2) if seed % 3 == 0 else (7, 2, 1, 0, 0)
    layers = tuple(rng.choices(kinds, weights, k=rng.randint(2, 6)))
    tables = random_costs(rng, layers, (2,), False), {"kl": random_scores(rng, layers, True)}
    instance = Instance(_in_parent(program_of(layers, (2,)), layers), *tables)
    instance = with_runs(instance, drawn_runs(rng, len(layers), rng.randint(2, 4)))
    requirements: list[nodes.Requirement] = [
        require(ParamsTerm(), "<=", _share(instance, ParamsTerm(), rng), line=3)
    ]
    if rng.random() < 0.4:
        requirements.append(require(KL, rng.choice(["<=", ">="]), _share(instance, KL, rng), line=4))
    if rng.random() < 0.4:
        kind: type[nodes.Runs | nodes.Longest] = rng.choice([nodes.Runs, nodes.Longest])
        formula = kind(statements=tuple(map(dropped, range(len(layers)))), at_most=rng.choice([1, 2]))
        requirements.append(LogicRequirement(formula=formula, where=at(5)))
    return instance.with_search(
        requirements=tuple(requirements),
        sense=rng.choice(["minimize", "minimize", "maximize"]),
        objective=alone(KL if rng.random() < 0.8 else ParamsTerm()),
        solutions=rng.choice([1, 1, 3]),
        apart=rng.choice([1, 2]),
    )


def _share(instance: Instance, term: Any, rng: Random) -> Fraction:
    values = sorted(child.term(term) for child in children_of(instance))
    return values[len(values) // rng.choice([2, 4, 8])]


def children_of(instance: Instance) -> list[Child]:
    """Every child, in the order of the space."""
    return list(all_children(tables_of(*instance.args)))
