"""Proposals: every one meets the requirements, none comes twice, and measuring them finds better children than the sum does."""

from fractions import Fraction

import pytest

from puzzledsl.ir.nodes import ParamsTerm
from puzzledsl.refining.candidates import Candidates, Proposal, Proposals
from puzzledsl.search.solve import solve_search
from tests.cases import more
from tests.oracles import violations
from tests.refining.cases import instance, loss
from tests.search.instances import Instance, alone, chat, require


def asked(made: Instance, number: int, seed: int = 0) -> tuple[Candidates, list[tuple[Proposal, float]]]:
    candidates = Candidates(*made.args)
    optimum = solve_search(*made.args).solutions[0]
    proposals = Proposals(candidates, optimum, seed)
    found: list[tuple[Proposal, float]] = []
    while len(found) < number and (proposal := proposals.next()) is not None:
        solution = proposal.solution
        measured = loss(solution.metrics[candidates.score], solution.layers)
        proposals.add(proposal, measured)
        found.append((proposal, measured))
    return candidates, found


@pytest.mark.parametrize("seed", [0, *more(1, 2, 3)])
def test_every_proposal_is_a_verified_answer_and_none_comes_twice(seed: int) -> None:
    """Its objective and metrics are those of the search's own tables. The optimum comes first; with seed 0 the model has one."""
    made = instance(seed)
    found = [proposal for proposal, _ in asked(made, 12)[1]]
    children = [proposal.solution.layers for proposal in found]
    assert len(set(children)) == len(children) >= 6
    for proposal in found:
        assert not violations(*made.args, proposal.solution)
    origins = {proposal.origin for proposal in found[1:]}
    assert found[0].origin == "optimum" and origins <= {"model", "drawn"} and (seed or len(origins) == 2)


@pytest.mark.slow
def test_measuring_finds_better_children_than_the_proven_optimum_of_the_sum() -> None:
    """Wherever the optimum suffers from interactions; never worse, since the optimum is measured too."""
    suffering = []
    for seed in range(10):
        candidates, found = asked(instance(seed), 16)
        best, (optimum, measured) = min(measured for _, measured in found), found[0]
        assert best <= measured
        if measured > optimum.solution.metrics[candidates.score]:
            suffering.append(best / measured)
    assert len(suffering) >= 3 and max(suffering) < 0.97


def test_same_figures_same_children() -> None:
    """And another seed draws others."""
    first, second, other = (
        [proposal.solution.layers for proposal, _ in asked(instance(2), 5, seed)[1]] for seed in (0, 0, 1)
    )
    assert first == second != other


def test_it_ends_when_there_is_nothing_new() -> None:
    """One child alone meets the requirements."""
    made = instance(4)
    fastest = made.with_search(requirements=(), objective=alone(chat("latency")))
    least = solve_search(*fastest.args).solutions[0].metrics["chat.latency"]
    limit = require(chat("latency"), "<=", Fraction(least) * Fraction(100_001, 100_000))
    _, found = asked(made.with_search(requirements=(limit,)), 60)
    assert 1 <= len(found) < 10


def test_goals_that_cannot_be_refined_are_refused() -> None:
    """Parameters are not measured on text."""
    made = instance(0)
    with pytest.raises(ValueError, match="measured on text"):
        Candidates(*made.with_search(objective=alone(ParamsTerm())).args)
