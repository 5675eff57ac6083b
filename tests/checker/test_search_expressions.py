"""Lowering of a search's expressions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.ir import nodes
from tests.checker.programs import TINY, lowered

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
        ("2 * chat.throughput >= 200 tok/s", ">=", 100, [(1, THROUGHPUT)]),
        ("-chat.throughput <= -200 tok/s", ">=", 200, [(1, THROUGHPUT)]),
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
        ("count(attention is not noop)", ("parent", "gqa2", "gqa1", "linear"), ALL),
        ("count(layers[1..].attention is gqa(kv_heads: <= 2))", ("gqa2", "gqa1"), (1, 2, 3)),
        ("count(attention is gqa)", ("parent", "gqa2", "gqa1"), ALL),
        (
            "count(l.attention is not linear for l in layers[0..1])",
            ("parent", "gqa2", "gqa1", "noop"),
            (0, 1),
        ),
    ],
)
def test_counts(tmp_path: Path, text: str, names: tuple[str, ...], layers: tuple[int, ...]) -> None:
    found = linear(tmp_path, f"{text} <= 2")
    term = nodes.CountTerm(sub_block="attention", alternatives=names, layers=layers)
    assert terms(found.left) == [(1, term)]
    assert found.bound == 2


def noop(layer: int) -> nodes.Is:
    return nodes.Is(layer=layer, sub_block="ffn", alternatives=("noop",))


def test_logic(tmp_path: Path) -> None:
    body = "layers[0].ffn is noop or not layers[1].ffn is noop implies layers[2].attention is gqa(kv_heads: <= 2)"
    (found,) = search(tmp_path, f"require {body}").requirements
    assert isinstance(found, nodes.LogicRequirement)
    assert found.formula == nodes.Implies(
        condition=nodes.Or(operands=(noop(0), nodes.Not(operand=noop(1)))),
        consequence=nodes.Is(layer=2, sub_block="attention", alternatives=("gqa2", "gqa1")),
    )
    body = "require all(l.ffn is noop for l in layers[0..1]) implies any(ffn is noop)"
    (found,) = search(tmp_path, body).requirements
    assert isinstance(found, nodes.LogicRequirement)
    assert found.formula == nodes.Implies(
        condition=nodes.And(operands=(noop(0), noop(1))), consequence=nodes.Or(operands=tuple(map(noop, ALL)))
    )


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
