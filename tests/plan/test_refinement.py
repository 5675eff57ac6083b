"""Which pieces are refined, and on how many tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from puzzledsl.ir.nodes import Initialisers, Program
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.flop import NUMBERS_A_WEIGHT, POINTS, is_refined, refinement_tokens

Build = Callable[..., Program]
PAPER = Initialisers(gqa="mean_pool", mlp="channel_contribution")


def kinds(job: BldJob) -> set[str]:
    return {alternative.kind for alternative in (job.attention, job.ffn) if alternative is not None}


@pytest.mark.parametrize("bld", ["decoupled", "coupled"])
def test_narrower_pieces_that_least_squares_starts_are(program: Build, bld: str) -> None:
    jobs = bld_plan(program(), bld)
    assert [is_refined(job) for job in jobs] == [bool(kinds(job) & {"gqa", "mlp"}) for job in jobs]


@pytest.mark.parametrize("bld", ["decoupled", "coupled"])
def test_the_papers_are_not(program: Build, bld: str) -> None:
    given = program()
    spaces = {name: space.model_copy(update={"init": PAPER}) for name, space in given.spaces.items()}
    assert not any(is_refined(job) for job in bld_plan(given.model_copy(update={"spaces": spaces}), bld))


def test_half_of_calibration_is_fitted_where_it_has_numbers_enough(program: Build) -> None:
    job = next(job for job in bld_plan(program(), "decoupled") if is_refined(job))
    hidden = 64
    weights = sum(math.prod(size) for size in job.shapes.values())
    least = 2 * NUMBERS_A_WEIGHT * math.ceil(weights / hidden)
    enough, short = (job.model_copy(update={"calibration_tokens": tokens}) for tokens in (least, least // 2))
    both, forward = refinement_tokens(enough, hidden)
    assert both == int(least / 2 * (1 + POINTS + 0.75)) and forward == least
    assert refinement_tokens(short, hidden) == (0, 0)
