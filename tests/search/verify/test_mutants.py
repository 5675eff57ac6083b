"""A mistake in the solver's evaluation of an answer is caught by the verifier, which shares no code with it."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from puzzledsl.costs.metrics import linear_metrics
from puzzledsl.ir.nodes import CountTerm, LayerChoice, Term
from puzzledsl.search import tables
from puzzledsl.search.problem import metrics, problem
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from tests.search.instances import ATTENTION, FFN, KL, Instance, alone, chat, plain_instance, require

LAYERS = (LayerChoice(attention=(*ATTENTION[:2], ATTENTION[4]), ffn=(*FFN[:2], FFN[4])),) * 3
MEMORY = require(chat("memory"), "<=", 13_000)
FASTER = require(chat("throughput"), ">=", ratio=Fraction(3, 2))
DROPPED = CountTerm(sub_block="ffn", alternatives=("noop",), layers=(0, 1, 2))

Patch = Callable[[pytest.MonkeyPatch], None]


def without(name: str, **wrong: Any) -> Callable[..., Any]:
    """The metrics of a scenario, one of them with another constant or another number for each cost."""
    return lambda costs: {**(right := linear_metrics(costs)), name: replace(right[name], **wrong)}


def every(monkeypatch: pytest.MonkeyPatch, mutant: Callable[..., Any]) -> None:
    """Use wrong metrics wherever the solver evaluates: in its integers and in its fractions."""
    monkeypatch.setattr("puzzledsl.costs.metrics.linear_metrics", mutant)
    monkeypatch.setattr(metrics, "linear_metrics", mutant)


def rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the decimals of scores with one digit."""
    for module in (tables, metrics):
        monkeypatch.setattr(module, "decimal", lambda value: Fraction(round(value, 1)))


def doubled(self: Child, term: Term) -> Fraction:
    """The value of a term, twice."""
    return 2 * RIGHT_TERM(self, term)


RIGHT_TERM = Child.term
MUTANTS: dict[str, tuple[Patch, dict[str, Any]]] = {
    "the latency leaves out decoding": (
        lambda m: every(m, without("latency", of=lambda cost: cost.prefill_ns)),
        {"objective": alone(chat("latency")), "requirements": (require(alone(KL), "<=", 2),)},
    ),
    "the latency in the integers alone": (
        lambda m: m.setattr(metrics, "linear_metrics", without("latency", of=lambda cost: cost.decode_ns)),
        {"objective": alone(chat("latency")), "requirements": (require(alone(KL), "<=", 2),)},
    ),
    "a constant in the integers alone": (
        lambda m: m.setattr(metrics, "linear_metrics", without("memory", constant=1)),
        {"objective": alone(chat("memory"))},
    ),
    "the parent's side of a ratio": (
        lambda m: m.setattr(problem, "bounds_of", lambda *_: (Fraction(1), Fraction(1))),
        {"requirements": (FASTER,)},
    ),
    "decimals of scores": (rounded, {"requirements": (MEMORY,)}),
    "counts": (
        lambda m: m.setattr(Child, "term", doubled),
        {"objective": alone(DROPPED), "requirements": (MEMORY,)},
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_evaluation_in_the_solver_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, search = MUTANTS[name]
    instance: Instance = plain_instance(LAYERS, **search)
    assert solve_search(*instance.args).status == "optimal"
    patch(monkeypatch)
    with pytest.raises(RuntimeError, match="the solver's answer is wrong"):
        solve_search(*instance.args)
