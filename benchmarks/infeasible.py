"""Random requirements of every kind that pull against each other: limits, ratios of the parent, sums, counts, a score's budget,
implications between neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

from benchmarks.synthetic import HERE, metric, single
from puzzledsl.ir.nodes import (
    CountTerm,
    FactTerm,
    Implies,
    Is,
    LinearRequirement,
    LogicRequirement,
    Not,
    ParamsTerm,
    Requirement,
    ScoreTerm,
    Term,
    Where,
)

Draw = Callable[[random.Random, int], list[Requirement]]


def draw_requirements(rng: random.Random, layers: int) -> tuple[Requirement, ...]:
    """Two to six requirements, each written on a line of its own."""
    kinds = rng.sample(KINDS, rng.randint(2, 6))
    drawn: list[Requirement] = []
    for line, kind in enumerate(kinds, start=10):
        drawn += [_at(line, r) for r in kind(rng, layers)]
    return tuple(drawn)


def _at(line: int, requirement: Requirement) -> Requirement:
    where = Where(
        file="synthetic.pzl", line=line, column=3, end_line=line, end_column=20, text=f"line {line}"
    )
    if isinstance(requirement, LinearRequirement):
        text = f"{float(requirement.parent_ratio):.4g}x" if requirement.parent_ratio else "1"
        bound = where.model_copy(update={"text": text})
        return requirement.model_copy(update={"where": where, "bound_where": bound})
    return requirement.model_copy(update={"where": where})


def _bound(
    term: Term, op: str, bound: Fraction | None = None, ratio: Fraction | None = None
) -> LinearRequirement:
    fields = {"op": op, "bound": bound, "parent_ratio": ratio, "where": HERE, "bound_where": HERE}
    return LinearRequirement.model_validate({"left": single(term), **fields})


def _ratio(term: Term, op: str, low: float, high: float) -> Draw:
    def draw(rng: random.Random, layers: int) -> list[Requirement]:
        return [_bound(term, op, ratio=Fraction(round(rng.uniform(low, high), 3)).limit_denominator(1000))]

    return draw


def _share(term: Callable[[tuple[int, ...]], Term], op: str, per_layer: int, low: float, high: float) -> Draw:
    """A bound on a sum or count over a random stretch of layers: a share of the most it could be."""

    def draw(rng: random.Random, layers: int) -> list[Requirement]:
        begin = rng.choice([0, 0, rng.randrange(layers // 2)])
        inside = tuple(range(begin, layers))
        bound = Fraction(round(rng.uniform(low, high) * per_layer * len(inside)))
        return [_bound(term(inside), op, bound)]

    return draw


def _count(sub_block: str, *names: str) -> Callable[[tuple[int, ...]], Term]:
    return lambda layers: CountTerm.model_validate(
        {"sub_block": sub_block, "alternatives": names, "layers": layers}
    )


def _fact(sub_block: str, attribute: str) -> Callable[[tuple[int, ...]], Term]:
    return lambda layers: FactTerm.model_validate(
        {"sub_block": sub_block, "attribute": attribute, "layers": layers}
    )


def _score_budget(rng: random.Random, layers: int) -> list[Requirement]:
    return [
        _bound(ScoreTerm(score="kl"), "<=", Fraction(round(rng.uniform(0.2, 3), 3)).limit_denominator(1000))
    ]


def _neighbours(rng: random.Random, layers: int) -> list[Requirement]:
    """No two neighbouring layers without attention (or without an FFN)."""
    part, step = rng.choice(["attention", "ffn"]), rng.choice([1, 1, 2, 4])
    return [_never_both(part, i) for i in range(1, layers, step)]


def _never_both(part: str, layer: int) -> LogicRequirement:
    here, before = (
        Is.model_validate({"layer": i, "sub_block": part, "alternatives": ("noop",)})
        for i in (layer, layer - 1)
    )
    return LogicRequirement(formula=Implies(condition=here, consequence=Not(operand=before)), where=HERE)


KINDS: list[Draw] = [
    _ratio(metric("chat", "memory"), "<=", 0.1, 0.6),
    _ratio(metric("chat", "throughput"), ">=", 1.5, 5),
    _ratio(metric("rag", "latency"), "<=", 0.15, 0.6),
    _ratio(metric("chat", "kv_cache"), "<=", 0.05, 0.5),
    _ratio(ParamsTerm(), ">=", 0.4, 0.9),
    _ratio(ParamsTerm(), "<=", 0.2, 0.7),
    _share(_fact("attention", "kv_heads"), ">=", 8, 0.2, 0.9),
    _share(_fact("ffn", "width"), ">=", 28672, 0.3, 0.9),
    _share(_count("attention", "noop"), "<=", 1, 0.05, 0.5),
    _share(_count("attention", "noop"), ">=", 1, 0.3, 0.8),
    _share(_count("ffn", "linear", "noop"), "<=", 1, 0, 0.4),
    _share(_count("ffn", "noop"), ">=", 1, 0.2, 0.7),
    _share(_count("ffn", "parent"), ">=", 1, 0.2, 0.8),
    _score_budget,
    _neighbours,
]
