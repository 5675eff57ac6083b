"""Answers of warm variations are those of fresh solves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import numpy as np

from benchmarks.synthetic import synthetic, with_search
from puzzledsl.api.session import Variations
from puzzledsl.ir.nodes import Is, LinearRequirement, LogicRequirement, Not, Requirement, Where
from puzzledsl.ir.tables import SearchResult
from puzzledsl.pipeline.context import Context
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of

INPUTS = synthetic(layers=8, attention=4, ffn=5, seed=3, batches=(128, 256))


def fresh(requirements: Sequence[Requirement]) -> SearchResult:
    program, costs, scores = with_search(INPUTS, requirements=tuple(requirements))
    return solve_search(program, "best", costs, scores)


def warm() -> Variations:
    program, costs, scores = INPUTS
    return Variations(tables_of(program, "best", costs, scores), cast(Context, None))


def moved(requirement: Requirement, factor: Fraction) -> Requirement:
    assert isinstance(requirement, LinearRequirement) and requirement.parent_ratio is not None
    return requirement.model_copy(update={"parent_ratio": requirement.parent_ratio * factor})


def pin(layer: int, name: str, *, negated: bool = False) -> LogicRequirement:
    chosen = Is(layer=layer, sub_block="ffn", alternatives=(name,))
    place = Where(file="", line=1, column=1, end_line=1, end_column=1, text=f"{layer} {name} {negated}")
    return LogicRequirement(formula=Not(operand=chosen) if negated else chosen, where=place)


def drawn(rng: np.random.Generator) -> list[Requirement]:
    """Requirements of a random question: bounds moved, some left out, some choices pinned or forbidden."""
    own = INPUTS[0].searches["best"].requirements
    kept = [moved(r, Fraction(int(rng.integers(50, 150)), 100)) for r in own if rng.uniform() < 0.85]
    for layer in rng.choice(8, int(rng.integers(0, 3)), replace=False).tolist():
        kept.append(pin(layer, "noop", negated=bool(rng.uniform() < 0.5)))
    return kept


def test_a_warm_answer_is_that_of_a_fresh_solve() -> None:
    rng, variations, statuses = np.random.default_rng(5), warm(), set()
    for _ in range(30):
        asked = drawn(rng)
        got, wanted = variations.solve(asked, time_s=20), fresh(asked)
        statuses.add(got.status)
        assert (got.status, got.solutions) == (wanted.status, wanted.solutions)
        assert got.objective == wanted.objective
    assert statuses == {"optimal", "infeasible"}
