"""What a search without an answer says."""

from __future__ import annotations

from fractions import Fraction

from puzzledsl.ir.nodes import Baseline, CpSat, LayerChoice
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.solve import solve_search
from puzzledsl.search.verdicts import no_answer
from tests.search.instances import ATTENTION, FFN, plain_instance

INSTANCE = plain_instance((LayerChoice(attention=ATTENTION, ffn=FFN),) * 2)


def test_a_time_out_says_what_is_proven() -> None:
    instance = INSTANCE.with_search(solver=CpSat(time_s=Fraction(3)))
    told = no_answer(instance.program, SearchResult(search="best", status="unknown", bound=1.25))
    assert told is not None
    assert (told.code, told.message) == ("E0507", "search `best`: no solution found by CP-SAT in 3 s")
    assert told.notes == (
        "that there is no solution is not proven either",
        "proven so far: no solution has an objective smaller than 1.25",
    )
    assert told.help == "give it more time: `solver = cpsat(time: 12s)`"


def test_a_heuristic_that_finds_nothing_proves_nothing() -> None:
    instance = INSTANCE.with_search(solver=Baseline(kind="greedy"))
    told = no_answer(instance.program, SearchResult(search="best", status="unknown", solver="greedy"))
    assert told is not None and told.notes == (
        "`greedy` is a heuristic: that it finds nothing proves nothing",
    )


def test_an_answer_needs_no_verdict() -> None:
    instance = INSTANCE
    assert no_answer(instance.program, solve_search(*instance.args)) is None
