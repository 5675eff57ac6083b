"""What a search without an answer says."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.ir.nodes import CpSat, Is, LayerChoice, LogicRequirement, Requirement
from puzzledsl.ir.tables import Change, ConflictItem, Relaxation, SearchResult
from puzzledsl.search.infeasible.verdicts import no_answer
from puzzledsl.search.solve import solve_search
from tests.search.instances import ATTENTION, FFN, KL, at, chat, plain_instance, require

INSTANCE = plain_instance((LayerChoice(attention=ATTENTION, ffn=FFN),) * 2)


def test_a_time_out_says_what_is_proven() -> None:
    program = INSTANCE.with_search(solver=CpSat(time_s=Fraction(3))).program
    told = no_answer(program, SearchResult(search="best", status="unknown", bound=1.25))
    assert told is not None
    assert (told.code, told.message) == ("E0507", "search `best`: no solution found by CP-SAT in 3 s")
    assert told.notes == (
        "that there is no solution is not proven either",
        "proven so far: no solution has an objective smaller than 1.25",
    )
    assert told.help == "give it more time: `solver = cpsat(time: 12s)`"
    told = no_answer(program, SearchResult(search="best", status="unknown"))
    assert told is not None and told.notes == ("that there is no solution is not proven either",)


LATENCY, SCORE = (
    require(chat("latency"), "<=", 1, line=4, text="1s"),
    require(KL, "<=", 0, line=5, text="0"),
)
RULE = LogicRequirement(formula=Is(layer=0, sub_block="ffn", alternatives=("noop",)), where=at(6))


def infeasible(*requirements: Requirement, **result: Any) -> Diagnostic:
    """What is said of an infeasible search with these requirements, all in conflict, each with its `frees`."""
    frees = result.pop("frees", (True,) * len(requirements))
    proven = result.pop("proven", (True,) * len(requirements))
    conflict = tuple(
        ConflictItem(
            line=r.where.line,
            text=r.where.text,
            reachable="" if r.kind == "logic" else "2s",
            frees=f,
            proven=p,
        )
        for r, f, p in zip(requirements, frees, proven, strict=True)
    )
    found = SearchResult(search="best", status="infeasible", conflict=conflict, **result)
    told = no_answer(INSTANCE.with_search(requirements=requirements).program, found)
    assert told is not None and told.code == "E0501"
    return told


@pytest.mark.parametrize(
    ("requirements", "more", "note"),
    [
        ((LATENCY,), {}, "this one cannot be met"),
        ((LATENCY, SCORE), {}, "these 2 conflict; dropping either makes the other satisfiable"),
        ((LATENCY, SCORE, RULE), {}, "these 3 conflict; dropping any one makes the rest satisfiable"),
        (
            (LATENCY, SCORE),
            {"frees": (False, True)},
            "these 2 conflict; dropping the one in line 5 makes the other satisfiable",
        ),
        (
            (LATENCY, SCORE),
            {"frees": (False, None)},
            "these 2 conflict; there is another conflict besides",
        ),
    ],
)
def test_what_dropping_a_requirement_would_do(requirements: Any, more: Any, note: str) -> None:
    assert infeasible(*requirements, **more).notes == (note,)


def test_what_was_not_shown_in_time_is_said() -> None:
    told = infeasible(LATENCY, SCORE, conflict_minimal=False, proven=(False, True))
    assert told.notes[1:] == (
        "time ran out before each of them was shown to be needed: fewer may conflict",
        "time ran out before what was reached in line 4 was proven to be the best",
    )
    assert told.label == "reached with the other: 2s"
    assert [label.text for label in told.secondary] == ["best with the other: 2s"]


def test_several_lines_are_listed() -> None:
    told = infeasible(LATENCY, SCORE, RULE, frees=(True, True, False), proven=(False, False, True))
    assert told.notes == (
        "these 3 conflict; dropping the one in line 4 or the one in line 5 makes the rest satisfiable",
        "time ran out before what was reached in lines 4 and 5 was proven to be the best",
    )
    assert infeasible(LATENCY, proven=(False,)).label == "reached: 2s"


def test_many_that_conflict_are_counted() -> None:
    many = [require(chat("latency"), "<=", 1, line=line, text="1s") for line in range(4, 24)]
    assert infeasible(*many).label == "best with the other 19: 2s"
    assert infeasible(RULE, LATENCY, SCORE).label == "cannot be met with the other two"


def test_a_space_without_a_model_and_one_that_nothing_fits() -> None:
    empty = SearchResult(search="best", status="infeasible")
    told = no_answer(INSTANCE.program, empty)
    assert told is not None and told.notes == ("the space has no model",)
    told = no_answer(INSTANCE.with_search(requirements=(LATENCY,)).program, empty)
    assert told is not None and told.notes == ("no model of the space fits, whatever is required",)


@pytest.mark.parametrize(
    ("changes", "help", "fixes"),
    [
        ([Change(line=4, text="line 4", bound="2s")], "write `2s` in line 4", 1),
        ([Change(line=6, text="line 6", bound=None)], "drop the requirement of line 6", 0),
        (
            [Change(line=4, text="line 4", bound="2s"), Change(line=5, text="line 5", bound="1")],
            "write `2s` in line 4 and write `1` in line 5",
            0,
        ),
    ],
)
def test_what_would_do(changes: list[Change], help: str, fixes: int) -> None:
    relaxation = Relaxation(changes=tuple(changes), objective=0.5, layers=())
    told = infeasible(LATENCY, SCORE, RULE, relaxation=relaxation)
    assert told.help == f"{help}: then there is a solution, of objective 0.5 (solved and verified)"
    assert len(told.fixes) == fixes


def test_an_answer_needs_no_verdict() -> None:
    assert no_answer(INSTANCE.program, solve_search(*INSTANCE.args)) is None
