"""Layers that cost and score alike: the answer is the first of the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl import load
from puzzledsl.ir.nodes import CountTerm, LayerChoice, ParamsTerm
from puzzledsl.search.solve import solve_search
from tests.cases import cases
from tests.oracles import brute_force
from tests.search.instances import ATTENTION, FFN, Instance, alone, chat, plain_instance, problems, require

EXAMPLES = Path(__file__).parents[3] / "examples"
quick: Any = settings(deadline=None, max_examples=cases(25), suppress_health_check=list(HealthCheck))


def all_like_the_first(instance: Instance) -> Instance:
    """Every layer gets the choice, costs and scores of layer 0."""

    def same(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return (values[0],) * len(values) if values else values

    program, costs = instance.program, instance.costs
    space = program.spaces["wide"]
    space = space.model_copy(update={"layers": same(space.layers)})
    candidates = tuple(
        c.model_copy(update={part: same(getattr(c, part)) for part in ("attention", "ffn", "pairs")})
        for c in costs.scenarios["chat"]
    )
    parts = ("params_attention", "params_ffn")
    costs = costs.model_copy(
        update={"scenarios": {"chat": candidates}, **{p: same(getattr(costs, p)) for p in parts}}
    )
    table = instance.scores["kl"]
    table = table.model_copy(update={p: same(getattr(table, p)) for p in ("attention", "ffn", "pairs")})
    return Instance(program.model_copy(update={"spaces": {"wide": space}}), costs, {"kl": table})


@quick
@given(problems())
def test_alike_layers_are_solved_as_by_brute_force(instance: Instance) -> None:
    instance = all_like_the_first(instance)
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert (best is None) == (result.status == "infeasible")
    if best is not None:
        assert result.objective == float(best.objective)
        assert result.solutions[0].layers == best.child.layers


@st.composite
def tied(draw: st.DrawFn) -> Instance:
    """Six alike layers, a goal that hardly tells models apart, and a budget."""
    layers = (LayerChoice(attention=ATTENTION[:3], ffn=FFN[:3]),) * draw(st.integers(2, 3))
    every = tuple(range(len(layers)))
    goal = draw(
        st.sampled_from([ParamsTerm(), CountTerm(sub_block="ffn", alternatives=("parent",), layers=every)])
    )
    ratio = draw(st.sampled_from(["0.9", "0.75", "0.6"]))
    return plain_instance(
        layers,
        objective=alone(goal),
        sense="maximize",
        requirements=(require(chat("latency"), "<=", ratio=ratio),),
    )


@quick
@given(tied())
def test_of_many_equal_answers_the_first_is_given(instance: Instance) -> None:
    best = brute_force(*instance.args)
    result = solve_search(*instance.args)
    assert best is not None
    assert result.solutions[0].layers == best.child.layers


def test_the_largest_child_in_three_budgets_is_proven_by_counting(tmp_path: Path) -> None:
    text = (EXAMPLES / "infeasible.pzl").read_text().replace(">= 2.5x", ">= 1.4x")
    program = tmp_path / "feasible.pzl"
    program.write_text(
        text.replace("  maximize params\n", "  maximize params\n  solver = cpsat(gap: 0.1%)\n")
    )
    answer = load(program).solve("small")
    assert (answer.status, answer.proved_by) == ("optimal", "CP-SAT")


def test_forty_alike_layers_are_solved() -> None:
    layers = (LayerChoice(attention=ATTENTION, ffn=FFN),) * 40
    instance = plain_instance(
        layers,
        objective=alone(ParamsTerm()),
        sense="maximize",
        requirements=(require(chat("latency"), "<=", ratio="0.6"),),
    )
    assert solve_search(*instance.args).status == "optimal"
