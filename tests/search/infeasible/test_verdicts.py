"""Diagnostics of searches without an answer."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.ir.nodes import CpSat, Is, LayerChoice, LogicRequirement, Requirement
from puzzledsl.ir.tables import Change, ConflictItem, Relaxation, SearchResult
from puzzledsl.search.infeasible.verdicts import no_answer
from puzzledsl.search.solve import solve_search
from tests.goldens import assert_text
from tests.search.instances import ATTENTION, FFN, KL, at, chat, plain_instance, require

INSTANCE = plain_instance((LayerChoice(attention=ATTENTION, ffn=FFN),) * 2)


LATENCY, SCORE = (
    require(chat("latency"), "<=", 1, line=4, text="1s"),
    require(KL, "<=", 0, line=5, text="0"),
)
RULE = LogicRequirement(formula=Is(layer=0, sub_block="ffn", alternatives=("noop",)), where=at(6))


def infeasible(*requirements: Requirement, **result: Any) -> Diagnostic:
    """Return the diagnostic of an infeasible search whose requirements, all given here, are in conflict."""
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


def relaxed(*changes: tuple[int, str | None]) -> Relaxation:
    made = tuple(Change(line=line, text=f"line {line}", bound=bound) for line, bound in changes)
    return Relaxation(changes=made, objective=0.5, layers=())


MANY = tuple(require(chat("latency"), "<=", 1, line=line, text="1s") for line in range(4, 24))
OF_THREE: list[dict[str, Any]] = [
    {"frees": (True, True, False), "proven": (False, False, True)},
    *({"relaxation": relaxed(*each)} for each in ([(4, "2s")], [(6, None)], [(4, "2s"), (5, "1")])),
]
VERDICTS = [
    *[((LATENCY,), {}), ((LATENCY,), {"proven": (False,)}), (MANY, {})],
    *((pair, {}) for pair in ((LATENCY, SCORE), (LATENCY, SCORE, RULE), (RULE, LATENCY, SCORE))),
    *(((LATENCY, SCORE), {"frees": (False, frees)}) for frees in (True, None)),
    ((LATENCY, SCORE), {"conflict_minimal": False, "proven": (False, True)}),
    *(((LATENCY, SCORE, RULE), each) for each in OF_THREE),
]


def test_verdicts_are_those_of_the_golden() -> None:
    """Diagnostics of conflicts, of a space without models and of too little time: notes, labels, help, number of fixes."""
    slow = INSTANCE.with_search(solver=CpSat(time_s=Fraction(3))).program
    unknown = (SearchResult(search="best", status="unknown", bound=bound) for bound in (1.25, None))
    empty = SearchResult(search="best", status="infeasible")
    told = [infeasible(*requirements, **more) for requirements, more in VERDICTS]
    told += filter(None, (no_answer(slow, result) for result in unknown))
    limited = INSTANCE.with_search(requirements=(LATENCY,)).program
    told += filter(None, (no_answer(program, empty) for program in (INSTANCE.program, limited)))
    blocks = (
        [f"{d.code} {d.message}", *d.notes, d.label, *(label.text for label in d.secondary[:2]), d.help]
        for d in told
    )
    text = "\n\n".join("\n".join(filter(None, block)) for block in blocks)
    assert_text(Path(__file__).with_name("verdicts.txt"), text + "\n")
    assert [len(d.fixes) for d in told] == [0] * 10 + [1] + [0] * (len(told) - 11)


def test_an_answer_needs_no_verdict() -> None:
    assert no_answer(INSTANCE.program, solve_search(*INSTANCE.args)) is None
