"""Lowering of a search's expressions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.ir import nodes
from tests.checker.programs import TINY, lowered, mistakes

ALL = (0, 1, 2, 3)
MEMORY = nodes.MetricTerm(scenario="chat", metric="memory")
LATENCY = nodes.MetricTerm(scenario="chat", metric="latency")
THROUGHPUT = nodes.MetricTerm(scenario="chat", metric="throughput")


def search(folder: Path, body: str, goal: str = "minimize kl") -> nodes.Search:
    return lowered(folder, TINY + f"search s of w {{\n  {goal}\n  {body}\n}}\n").searches["s"]


def linear(folder: Path, condition: str) -> nodes.LinearRequirement:
    (found,) = search(folder, f"require {condition}").requirements
    assert isinstance(found, nodes.LinearRequirement)
    return found


def terms(value: nodes.Linear) -> list[tuple[Any, Any]]:
    return [(w.coefficient, w.term) for w in value.terms]


@pytest.mark.parametrize(
    ("condition", "op", "bound", "coefficients"),
    [
        ("chat.memory <= 8GiB", "<=", 8 * 2**30, [(1, MEMORY)]),
        ("8GiB >= chat.memory", "<=", 8 * 2**30, [(1, MEMORY)]),
        ("chat.memory < h.memory / 2", "<", 8 * 2**30, [(1, MEMORY)]),
        ("2 * chat.memory - 1GiB <= 8GiB", "<=", 9 * 2**30, [(2, MEMORY)]),
        ("chat.memory <= 3 * chat.memory - 8GiB", "<=", -8 * 2**30, [(-2, MEMORY)]),
        ("50% * chat.latency + 10ms <= 30ms", "<=", Fraction(20, 1000), [(Fraction(1, 2), LATENCY)]),
        (
            "chat.latency <= 30s + chat.ttft",
            "<=",
            30,
            [(1, LATENCY), (-1, nodes.MetricTerm(scenario="chat", metric="ttft"))],
        ),
        ("chat.throughput >= 200 tok/s", ">=", 200, [(1, THROUGHPUT)]),
        ("2 * chat.throughput >= 200 tok/s", ">=", 100, [(1, THROUGHPUT)]),
        ("-chat.throughput <= -200 tok/s", ">=", 200, [(1, THROUGHPUT)]),
        ("params <= 51.5B", "<=", 51_500_000_000, [(1, nodes.ParamsTerm())]),
        ("params == 1M", "==", 10**6, [(1, nodes.ParamsTerm())]),
        (
            "kl + 2 * params / 1B > 3",
            ">",
            3,
            [(1, nodes.ScoreTerm(score="kl")), (Fraction(2, 10**9), nodes.ParamsTerm())],
        ),
    ],
)
def test_everything_moves_left(
    tmp_path: Path, condition: str, op: str, bound: object, coefficients: object
) -> None:
    found = linear(tmp_path, condition)
    assert (found.op, found.bound, found.parent_ratio) == (op, bound, None)
    assert terms(found.left) == coefficients
    assert found.left.constant == 0


def test_a_ratio_is_the_parents(tmp_path: Path) -> None:
    for condition in ("chat.memory <= 0.6x", "0.6x >= chat.memory", "chat.memory <= 1.2x / 2"):
        found = linear(tmp_path, condition)
        assert (found.op, found.bound, found.parent_ratio) == ("<=", None, Fraction(3, 5))


def test_chains_split(tmp_path: Path) -> None:
    found = search(tmp_path, "require 1x <= chat.throughput <= 3x").requirements
    linears = [r for r in found if isinstance(r, nodes.LinearRequirement)]
    assert [(r.op, str(r.parent_ratio)) for r in linears] == [(">=", "1"), ("<=", "3")]


def test_and_splits(tmp_path: Path) -> None:
    body = 'require chat.memory <= 8GiB and params <= 1M and layers[0].ffn is noop because "both"'
    found = search(tmp_path, body).requirements
    assert [r.kind for r in found] == ["linear", "linear", "logic"]
    assert {r.because for r in found} == {"both"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(attention.kv_heads)", [(1, ("attention", "kv_heads", ALL))]),
        ("sum(l.ffn.width for l in layers[1..2])", [(1, ("ffn", "width", (1, 2)))]),
        ("sum(layers[1..2].ffn.width)", [(1, ("ffn", "width", (1, 2)))]),
        ("layers[-1].ffn.params", [(1, ("ffn", "params", (3,)))]),
        (
            "sum(ffn.width) + layers[0].ffn.width",
            [(2, ("ffn", "width", (0,))), (1, ("ffn", "width", (1, 2, 3)))],
        ),
        ("sum(l.ffn.width for l in layers where false) + params", [(1, None)]),
        (
            "sum(i * layers[i].ffn.width for i in 1..2)",
            [(1, ("ffn", "width", (1,))), (2, ("ffn", "width", (2,)))],
        ),
    ],
)
def test_sums_of_facts(tmp_path: Path, text: str, expected: list[tuple[int, Any]]) -> None:
    found = terms(linear(tmp_path, f"{text} <= 400").left)
    wanted = [
        (c, nodes.ParamsTerm() if f is None else nodes.FactTerm(sub_block=f[0], attribute=f[1], layers=f[2]))
        for c, f in expected
    ]
    assert found == wanted


@pytest.mark.parametrize(
    ("text", "names", "layers"),
    [
        ("count(attention is noop)", ("noop",), ALL),
        ("count(attention is not noop)", ("parent", "gqa2", "gqa1", "linear"), ALL),
        ("count(layers[1..].attention is gqa(kv_heads: <= 2))", ("gqa2", "gqa1"), (1, 2, 3)),
        ("count(attention is gqa)", ("parent", "gqa2", "gqa1"), ALL),
        ("count(attention is parent)", ("parent",), ALL),
        ("count(l.attention is linear for l in layers[0..1])", ("linear",), (0, 1)),
    ],
)
def test_counts(tmp_path: Path, text: str, names: tuple[str, ...], layers: tuple[int, ...]) -> None:
    found = linear(tmp_path, f"{text} <= 2")
    term = nodes.CountTerm(sub_block="attention", alternatives=names, layers=layers)
    assert terms(found.left) == [(1, term)]
    assert found.bound == 2


def test_counting_a_negation_counts_the_rest(tmp_path: Path) -> None:
    found = linear(tmp_path, "count(l.ffn is not noop for l in layers) >= 3")
    term = nodes.CountTerm(sub_block="ffn", alternatives=("parent", "mlp96"), layers=ALL)
    assert (terms(found.left), found.bound) == ([(1, term)], 3)


def test_logic(tmp_path: Path) -> None:
    body = "require layers[0].ffn is noop or not layers[1].ffn is noop implies layers[2].attention is gqa(kv_heads: <= 2)"
    (found,) = search(tmp_path, body).requirements
    assert isinstance(found, nodes.LogicRequirement)
    noop = [nodes.Is(layer=i, sub_block="ffn", alternatives=("noop",)) for i in (0, 1)]
    assert found.formula == nodes.Implies(
        condition=nodes.Or(operands=(noop[0], nodes.Not(operand=noop[1]))),
        consequence=nodes.Is(layer=2, sub_block="attention", alternatives=("gqa2", "gqa1")),
    )


def test_a_whole_layer(tmp_path: Path) -> None:
    (found,) = search(tmp_path, "require layers[0] is parent").requirements
    assert isinstance(found, nodes.LogicRequirement) and isinstance(found.formula, nodes.And)
    assert [o.sub_block for o in found.formula.operands if isinstance(o, nodes.Is)] == ["attention", "ffn"]


def test_for_guards_its_layers(tmp_path: Path) -> None:
    """A false guard is no requirement, and what it guards is not looked at: `layers[i+1]` never leaves the model."""
    body = (
        "for i in 0..3 { require i < 3 implies (layers[i].ffn is noop implies layers[i+1].ffn is not noop) }"
    )
    assert len(search(tmp_path, body).requirements) == 3


def test_all_and_any(tmp_path: Path) -> None:
    body = "require all(l.ffn is noop for l in layers[0..1]) implies any(attention is parent)"
    (found,) = search(tmp_path, body).requirements
    assert isinstance(found, nodes.LogicRequirement) and isinstance(found.formula, nodes.Implies)
    condition, consequence = found.formula.condition, found.formula.consequence
    assert isinstance(condition, nodes.And) and len(condition.operands) == 2
    assert isinstance(consequence, nodes.Or) and len(consequence.operands) == 4


def test_let_fn_and_if_work_on_symbols(tmp_path: Path) -> None:
    text = TINY + (
        "fn late(l) = l.ffn.width\nlet budget = if p.layers > 3 then 2 else 1\nlet spent = chat.memory\n"
        "search s of w {\n minimize kl\n let first = sum(late(l) for l in layers[..1])\n"
        " require budget * first <= 100\n require spent <= 8GiB\n}\n"
    )
    found = lowered(tmp_path, text).searches["s"].requirements
    assert [terms(r.left) for r in found if isinstance(r, nodes.LinearRequirement)] == [
        [(2, nodes.FactTerm(sub_block="ffn", attribute="width", layers=(0, 1)))],
        [(1, MEMORY)],
    ]


def test_goals(tmp_path: Path) -> None:
    found = search(
        tmp_path,
        'prefer -chat.latency\n prefer params because "big"\n prefer count(ffn is noop)',
        "maximize chat.throughput",
    )
    assert (found.sense, terms(found.objective)) == ("maximize", [(1, THROUGHPUT)])
    assert [(q.sense, terms(q.goal)[0]) for q in found.preferences] == [
        ("minimize", (1, LATENCY)),
        ("maximize", (1, nodes.ParamsTerm())),
        ("maximize", (1, nodes.CountTerm(sub_block="ffn", alternatives=("noop",), layers=ALL))),
    ]
    assert found.preferences[1].because == "big"


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (
            "cpsat(time: 5min, gap: 0.1%, seed: 42)",
            nodes.CpSat(time_s=Fraction(300), gap=Fraction(1, 1000), seed=42),
        ),
        ("cpsat", nodes.CpSat(time_s=Fraction(60))),
        ("greedy", nodes.Baseline(kind="greedy")),
        ("max_params", nodes.Baseline(kind="max_params")),
        ("uniform()", nodes.Baseline(kind="uniform")),
        ("noop_only", nodes.Baseline(kind="noop_only")),
        ("random(seed: 7)", nodes.Baseline(kind="random", seed=7)),
    ],
)
def test_solvers(tmp_path: Path, solver: str, expected: object) -> None:
    assert search(tmp_path, f"solver = {solver}").solver == expected


def test_inheritance(tmp_path: Path) -> None:
    text = TINY + (
        "search a of w { minimize kl, require params <= 1M, solutions 5 apart 2, solver = greedy }\n"
        "search b of a { maximize params, require chat.memory <= 8GiB }\n"
        "search c of b { solver = uniform, solutions 2 }\n"
    )
    a, b, c = (lowered(tmp_path, text).searches[n] for n in "abc")
    assert (b.sense, b.solver, b.solutions, b.apart) == ("maximize", a.solver, 5, 2)
    assert b.requirements[:1] == a.requirements and len(b.requirements) == 2
    assert c.requirements == b.requirements and c.objective == b.objective
    assert (c.solver, c.solutions, c.apart, c.space) == (nodes.Baseline(kind="uniform"), 2, 1, "w")


def test_a_score_may_look_around_the_search_that_minimises_it(tmp_path: Path) -> None:
    text = TINY + (
        "bld b of w { tokens = 0 }\n"
        "score near of b = replace_one(kl_divergence, around: best, rounds: 2)\n"
        "search best of w { minimize near }\n"
    )
    method = lowered(tmp_path, text).scores["near"].method
    assert isinstance(method, nodes.ReplaceOne)
    assert (method.around, method.rounds) == ("best", 2)


def test_batches(tmp_path: Path) -> None:
    text = TINY + "scenario a on h = batch(auto, 8 -> 8)\nscenario b on h = batch(8 | 2 | 4 | 2, 8 -> 8)\n"
    program = lowered(tmp_path, text)
    assert program.scenarios["a"].batches == ()
    assert program.scenarios["b"].batches == (2, 4, 8)


def test_mistakes_in_one_run(tmp_path: Path) -> None:
    body = [
        "require chat.memory <= 3",
        "require nothing <= 3",
        "require layers[9].ffn is noop",
        "require kl * params <= 1",
    ]
    text = TINY + "search s of w {\n  minimize kl\n  " + "\n  ".join(body) + "\n}\n"
    first = TINY.count("\n") + 3
    assert mistakes(tmp_path, text) == [
        ("E0301", first), ("E0201", first + 1), ("E0401", first + 2), ("E0308", first + 3),
    ]  # fmt: skip
