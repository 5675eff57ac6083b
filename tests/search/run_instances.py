"""Small searches with scores of runs of dropped layers, and the best children by trying all."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from random import Random
from typing import Any

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import (
    And,
    Is,
    LayerChoice,
    Logic,
    LogicRequirement,
    Longest,
    ParamsTerm,
    Program,
    Requirement,
    Runs,
)
from puzzledsl.ir.tables import LayerAssignment, RunScore, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import tables_of
from tests.search.instances import KL, Instance, _cost_table, _score_table, alone, at, program_of, require

FREE = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(), NoOpFfn()))
NARROW = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(NoOpFfn(), LinearFfn()))
KEPT = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(), MlpFfn(width=8)))
ONE_ATTENTION = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(),))
ONE_FFN = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), NoOpFfn()))
"""Layers of one sub-block, which is all that goes when they are dropped."""
Layers = tuple[LayerAssignment, ...]


def dropped(layer: int) -> Logic:
    """Neither sub-block of a layer is left."""
    parts: tuple[SubBlock, SubBlock] = ("attention", "ffn")
    return And(operands=tuple(Is(layer=layer, sub_block=part, alternatives=("noop",)) for part in parts))


def with_runs(instance: Instance, runs: Sequence[RunScore], name: str = "kl") -> Instance:
    """The same with scores of runs."""
    table = instance.scores[name].model_copy(update={"runs": tuple(runs)})
    return Instance(instance.program, instance.costs, {**instance.scores, name: table})


def drawn_runs(rng: Random, layers: int, longest: int, exact: bool = True) -> list[RunScore]:
    """Scores of most runs of 2 to `longest` layers, some of them negative; `exact`: of few decimals."""
    return [
        RunScore(first=first, length=length, value=rng.randint(-500, 3000) / (1000 if exact else 997))
        for first in range(layers)
        for length in range(2, longest + 1)
        if first + length <= layers and rng.random() < 0.9
    ]


def _in_parent(program: Program, layers: Sequence[LayerChoice]) -> Program:
    """The program with a parent whose layers of one sub-block have no other."""
    parent = program.parents["tiny"]
    shape = parent.shape.with_layers(
        [
            {
                "mixer": "none" if choice == ONE_FFN else "attention",
                "ffn": "none" if choice == ONE_ATTENTION else "dense",
            }
            for choice in layers
        ]
    )
    return program.model_copy(update={"parents": {"tiny": parent.model_copy(update={"shape": shape})}})


def run_instance(seed: int) -> Instance:
    """Two to six layers, most of which can be dropped; runs of up to two to four layers are scored. A seed always gives the same.

    Parameters are required; sometimes a score or a structure too. Sometimes several answers are asked for.
    """
    rng = Random(seed)
    kinds = (FREE, NARROW, KEPT, ONE_ATTENTION, ONE_FFN)
    layers = tuple(
        rng.choices(kinds, (7, 2, 1, 2, 2) if seed % 3 == 0 else (7, 2, 1, 0, 0), k=rng.randint(2, 6))
    )
    tables = _cost_table(rng, layers, (2,), False), {"kl": _score_table(rng, layers, True)}
    instance = Instance(_in_parent(program_of(layers, (2,)), layers), *tables)
    instance = with_runs(instance, drawn_runs(rng, len(layers), rng.randint(2, 4)))
    requirements: list[Requirement] = [
        require(ParamsTerm(), "<=", _share(instance, ParamsTerm(), rng), line=3)
    ]
    if rng.random() < 0.4:
        requirements.append(require(KL, rng.choice(["<=", ">="]), _share(instance, KL, rng), line=4))
    if rng.random() < 0.4:
        kind: type[Runs | Longest] = rng.choice([Runs, Longest])
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
    """Every child, in the order of the space, at the first batch of each scenario that the search mentions."""
    tables = tables_of(*instance.args)
    batches = {name: tables.candidates(name)[0] for name in tables.scenarios}
    pairs = [
        [LayerAssignment(attention=a.name, ffn=f.name) for a, f in product(c.attention, c.ffn)]
        for c in tables.layers
    ]
    return [Child(tables, layers, batches) for layers in product(*pairs)]


def best_children(instance: Instance) -> list[tuple[Fraction, Layers]]:
    """The answers that a search has, by trying all children: each the first of the best that are apart from those before."""
    search = instance.search
    meeting = [c for c in children_of(instance) if all(map(c.meets, search.requirements))]
    sign = 1 if search.sense == "minimize" else -1
    ranked = sorted(
        ((c.linear(search.objective), c.layers) for c in meeting), key=lambda found: sign * found[0]
    )
    picked: list[tuple[Fraction, Layers]] = []
    for value, layers in ranked:
        far = all(
            sum(a != b for a, b in zip(layers, other, strict=True)) >= search.apart for _, other in picked
        )
        if far and len(picked) < search.solutions:
            picked.append((value, layers))
    return picked


def scored(instance: Instance) -> ScoreTable:
    """The table with the runs."""
    return instance.scores["kl"]
