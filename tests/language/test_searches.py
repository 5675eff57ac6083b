"""Searches: goals, requirements, preferences, solvers; what is refused of frontiers and `refine` too."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerAssignment, ScoreTable, SearchResult
from puzzledsl.search.solve import solve_search
from tests.language.rules import MEASURED, codes, holds, outcome, program, refined, refused, search

CARD = "hardware g { memory = 80GB, bandwidth = 2TB/s, peak { bf16 = 300TFLOP/s } }\nscenario talk on g = batch(2, 8 -> 8)\n"
SCORES = {"gqa2": 0.2, "gqa1": 0.3, "linear": 0.5, "noop": 0.4}
FFN_SCORES = {"mlp96": 0.1, "noop": 0.9}


def solved(folder: Path, text: str, name: str = "s") -> SearchResult:
    """The answer to a search over the prelude's space with made-up scores."""
    found = program(folder, text)
    scores = ScoreTable(score="kl", metric="table", samples=0, attention=(SCORES,) * 4, ffn=(FFN_SCORES,) * 4)
    return solve_search(found, name, cost_table(found, "w"), {"kl": scores})


def best(folder: Path, body: str, goal: str = "minimize kl") -> tuple[LayerAssignment, ...]:
    result = solved(folder, CARD + search(body, goal))
    assert result.status == "optimal"
    return result.solutions[0].layers


def requirements(folder: Path, condition: str) -> tuple[nodes.Requirement, ...]:
    return program(folder, search(f"require {condition}")).searches["s"].requirements


def linear(folder: Path, condition: str) -> nodes.LinearRequirement:
    (found,) = requirements(folder, condition)
    assert isinstance(found, nodes.LinearRequirement)
    return found


@pytest.mark.parametrize(
    "text",
    [
        *holds("types.constant", search("let most = 3\n require count(ffn is noop) <= most * 2 - p.layers")),
        *holds("require.for", search("for i in 0..1 { for j in 2..3 where j > i { require layers[i].ffn is noop implies layers[j].ffn is mlp } }")),
        *holds("require.for", search("for l in layers[1..] { require l.ffn is mlp }\n for i in [0, 3] { require layers[i].ffn is mlp }")),
        *holds("require.constant", search("for i in 0..3 { require i >= 0 }")),
        *holds("require.which-layer", search("require count(attention is noop) <= 1\n require all(ffn is not noop)\n require any(attention is gqa)")),
        *holds(
            "require.same",
            search("require layers[1] same as layers[2]\n require not layers[1].ffn same as layers[2].ffn"),
            search("for i in 1..3 { require layers[i] is noop implies layers[i].attention same as layers[i - 1].attention }"),
            search("require all(l same as layers[0] for l in layers)"),
        ),
        *holds("require.same-word", "let same = 3\nassert same == 3", search("let same = layers[0]\n require same same as layers[1]\n require layers[0]\n same as layers[1]")),
        *holds(
            "require.runs",
            search("require runs(attention is noop) <= 1\n require longest(l is noop for l in layers) < 2"),
            search("require 2 > runs(l.ffn.width >= 96 for l in layers[1..])"),
            search("require runs(layers[0].ffn is noop, layers[2].ffn is noop) == 1\n require longest(all([layers[1] is noop])) != 1"),
        ),
        *holds("require.distinct", search("require distinct(ffn.width) <= 2\n require distinct(attention) <= 3\n require distinct(layers[1..]) <= 2"), search("require distinct(l.ffn.width mod 64 for l in layers[1..]) <= 1\n require distinct(layers[0].ffn.width, layers[1].ffn.width, 96) == 2")),
        *holds("require.tally", search("require 1 <= runs(attention is noop) <= 2 and layers[0] is noop or distinct(ffn) < 3\n require not longest(ffn is noop) > p.layers - 2")),
        *holds("overrides.computed", search("let last = -1\n let ends = [0, -1]\n require layers[last].ffn is mlp\n require count(layers[ends].ffn is noop) <= 1\n require all(layers[i].ffn is mlp for i in [-1, -2])"), search("for i in 1..3 { require layers[i - 1].ffn is mlp }")),
        *holds("prefer.statement", search("prefer layers[0].ffn is mlp\n prefer layers[1] is noop or layers[1].ffn is mlp")),
        *holds("frontier.sweep", search("") + "\nfrontier a of s = sweep(chat.throughput, 1x..3x, points: 20)\nfrontier b of s = sweep(sum(ffn.width), 100..300)\nfrontier c of s = sweep(kl, 0.1..3)\nfrontier d of s = sweep(count(ffn is noop), 0..3, points: 4)"),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("values.spread", (search("require count(attention is noop for l in layers) <= 3"), "E0311"), (search("require sum(ffn.width for l in layers) <= 3"), "E0303")),
        *refused(
            "search.grain",
            (search("", goal="maximize kl"), "W0316"),
            (search("", goal="maximize chat.latency + chat.ttft"), "W0316"),
            (search("", goal="minimize chat.throughput"), "W0316"),
            (search("prefer chat.memory"), "W0316"),
            (search("prefer -chat.throughput"), "W0316"),
            (search("prefer -chat.memory\n prefer chat.throughput\n prefer params\n prefer -params\n prefer params - kl"), ""),
        ),
        *refused("search.goal", ("search s of w { solver = cpsat }", "E0209"), (search("maximize params"), "E0208"), (search("", goal="minimize 3"), "E0312")),
        *refused("types.table", (search("require min(ffn.width) >= 3"), "E0307")),
        *refused("types.linear", (search("require max(l.ffn.width for l in layers) <= 3"), "E0307")),
        *refused(
            "types.not-linear",
            (search("require layers[0].ffn.width * layers[1].ffn.width <= 3"), "E0308"),
            (search("require params / chat.latency <= 3"), "E0308"),
            (search("require kl * kl <= 3"), "E0308"),
            (search("require 1 / chat.latency <= 3"), "E0308"),
        ),
        *refused("require.comparison", (search("require params"), "E0313"), (search("require chat.memory <= 3"), "E0301")),
        *refused("require.equality", (search("require chat.memory == 1GiB"), "E0314"), (search("require kl == 1"), "E0314"), (search("require params != 3"), "E0314")),
        *refused("require.ratio", (search("require 2 * chat.latency + 0.5x <= 3s"), "E0302"), (search("require 2x <= 3x"), "E0312")),
        *refused("require.throughput", (search("require chat.throughput + 1 tok/s >= 3 tok/s"), "E0309"), (search("require chat.throughput >= chat.throughput / 2 + 3 tok/s"), "E0309")),
        *refused("require.constant", (search("require 1 <= 2"), "E0312"), (search("require chat.batch >= 4"), "E0312"), (search("for i in 0..3 { require i < 0 }"), "E0312")),
        *refused("require.logic", (search("require kl <= 3 or layers[0].ffn is noop"), "E0310"), (search("require layers[0].ffn == noop"), "E0303")),
        *refused("require.which-layer", (search("require attention is noop"), "E0311"), (search("require attention is noop implies ffn is noop"), "E0311")),
        *refused(
            "require.same-sides",
            (search("require layers[0] same as layers[1].ffn"), "E0318"),
            (search("require layers[0].attention same as layers[1].ffn"), "E0318"),
            (search("require layers same as layers[1]"), "E0303"),
            (search("require attention same as layers[1].attention"), "E0303"),
            (search("require layers[0].ffn same as noop"), "E0303"),
        ),
        *refused("require.same-word", (search("require layers[0] same layers[1]"), "E0001"), (search("require layers[0] is same as layers[1]"), "E0001"), (search("require layers[0] same\n as layers[1]"), "E0001 E0001")),
        *refused("require.runs", (search("require runs(attention) <= 1"), "E0303"), (search("require runs(kl <= 3) <= 1"), "E0303"), (search("require longest(layers[0] is noop or layers[1] is noop) <= 1"), "E0303")),
        *refused("require.consecutive", (search("require runs(layers[1] is noop, layers[0] is noop) <= 1"), "E0303"), (search("require runs(layers[i mod 2] is noop for i in 0..2) <= 1"), "E0303")),
        *refused("require.distinct", (search("require distinct(ffn is noop) <= 1"), "E0303"), (search("require distinct(sum(ffn.width)) <= 1"), "E0303"), (search("require distinct(ffn, attention) <= 1"), "E0302")),
        *refused(
            "require.tally",
            (search("require runs(ffn is noop) + 1 <= 3"), "E0317"),
            (search("require runs(ffn is noop) <= longest(ffn is noop)"), "E0317"),
            (search("", goal="minimize distinct(ffn)"), "E0317"),
            (search("prefer -distinct(ffn)"), "E0317"),
            (search("require distinct(ffn) <= kl"), "E0307"),
            (search("require distinct(ffn) <= 1.5"), "E0304"),
            (search("require distinct(ffn) <= 1x"), "E0303"),
            (search("require distinct(ffn)"), "E0313"),
            (search("prefer distinct(ffn) <= 2"), "E0313"),
        ),
        *refused(
            "overrides.computed",
            (search("for i in 0..3 { require layers[i - 1].ffn is mlp }"), "E0414"),
            (search("require all(layers[l.index - 1] is noop for l in layers)"), "E0414"),
            (search("let before = 1 - 2\n require layers[before].ffn is mlp"), "E0414"),
            (search("for i in 0..3 { require layers[i + 1].ffn is mlp }"), "E0401"),
        ),
        *refused("prefer.order", (search("prefer kl <= 3"), "E0313")),
        *refused("solutions.apart", (search("solutions 3 apart 5"), "E0304"), (search("solutions 0"), "E0304")),
        *refused("search.score-space", ("space v of p { ffn = parent | noop }\nsearch s of v { minimize kl }", "E0413")),
        *refused("solver.choice", (search("solver = simplex"), "E0305"), (search("solver = greedy"), "E0305"), (search("solver = cpsat(seeds: 1)"), "E0204"), (search("solver = cpsat, solver = cpsat"), "E0208")),
        *refused("refine.choice", (refined("refine = measure_some(3)"), "E0305"), (refined("refine = measured"), "E0209"), (refined("refine = none(3)"), "E0210"), (refined("refine = measured(0)"), "E0304"), (refined("refine = none, refine = none"), "E0208")),
        *refused(
            "refine.goal",
            (refined("refine = measured(3)", goal="maximize params, require loss <= 1"), "E0421"),
            (refined("refine = measured(3)", goal="minimize loss + params / 1M"), "E0421"),
            (refined("refine = measured(3)", goal="maximize -loss"), "E0421"),
            (refined("refine = measured(3)", goal="minimize tasks"), "E0421"),
            (search("refine = measured(3)"), "E0421 E0424"),
            (MEASURED + search("refine = measured(3)", goal="minimize real"), "E0424"),
        ),
        *refused("refine.one", (refined("solutions 2, refine = measured(3)"), "E0422")),
        *refused("refine.inherits", (refined("refine = measured(3)") + "\nsearch b of s { solutions 2 }", "E0422")),
        *refused(
            "frontier.ends",
            (search("") + "\nfrontier f of s = sweep(chat.latency, 1..3)", "E0301"),
            (search("") + "\nfrontier f of s = sweep(chat.latency, 3s..1s)", "E0304"),
            (search("") + "\nfrontier f of s = sweep(chat.latency, 1s..3s, children: 4)", "E0204"),
            (search("") + "\nfrontier f of s = sweep(chat.latency, 1x..3x, points: 1)", "E0304"),
            (search("") + "\nfrontier f of s = sweep(chat.latency + chat.ttft, 1s..3s)", "E0303"),
        ),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


# ---------------------------------------------------------------- the search itself


@pytest.mark.states("search.goal")
def test_goals(tmp_path: Path) -> None:
    assert [
        program(tmp_path, search("", goal=f"{s} params")).searches["s"].sense
        for s in ("minimize", "maximize")
    ] == [
        "minimize",
        "maximize",
    ]


@pytest.mark.states("search.inherits")
def test_a_search_of_a_search(tmp_path: Path) -> None:
    a = "search a of w { minimize kl, require params <= 0.9x, prefer params, solutions 3 apart 2, solver = cpsat(time: 5s) }\n"
    found = program(
        tmp_path,
        a
        + "search b of a { require params >= 0.1x, prefer -kl }\nsearch c of a { maximize params, solver = cpsat, solutions 1 }",
    )
    one, two, three = (found.searches[name] for name in "abc")
    assert (two.objective, two.solver, two.solutions, two.apart) == (
        one.objective,
        one.solver,
        one.solutions,
        one.apart,
    )
    assert two.requirements[:1] == one.requirements and len(two.requirements) == 2
    assert two.preferences[:1] == one.preferences and len(two.preferences) == 2
    assert (three.sense, three.solver.kind, three.solutions, three.requirements) == (
        "maximize",
        "cpsat",
        1,
        one.requirements,
    )


class Term(NamedTuple):
    text: str
    kinds: tuple[str, ...]


@pytest.mark.states("types.constant", "types.table", "types.pair", "types.linear")
@pytest.mark.parametrize(
    "term",
    [
        Term("layers[1].ffn.width", ("fact",)),
        Term("3 * layers[1].ffn.width + 2 * layers[2].ffn.width", ("fact", "fact")),
        Term("layers[1].ffn.width * layers[1].ffn.width", ("table",)),
        Term("min(layers[1].ffn.width, 100)", ("table",)),
        Term("(if layers[1].ffn is noop then 3 else 0)", ("count",)),
        Term("abs(layers[1].attention.kv_heads - 3)", ("table",)),
        Term("layers[1].attention.kv_heads * layers[1].ffn.width", ("table",)),
        Term("sum(l.attention.kv_heads * l.ffn.width for l in layers)", ("table",)),
        Term("kl + params + 2 * sum(ffn.width)", ("score", "params", "fact")),
        Term("mean(attention.kv_heads)", ("fact",)),
    ],
    ids=lambda term: term.text,
)
def test_what_expressions_lower_to(tmp_path: Path, term: Term) -> None:
    assert tuple(w.term.kind for w in linear(tmp_path, f"{term.text} <= 3").left.terms) == term.kinds


@pytest.mark.states("types.pair")
def test_a_pair_table_has_both_axes(tmp_path: Path) -> None:
    (found,) = linear(tmp_path, "layers[1].attention.kv_heads * layers[1].ffn.width <= 3").left.terms
    assert isinstance(found.term, nodes.TableTerm)
    assert found.term.layers == (1,)
    assert found.term.value("gqa2", "mlp96") == 2 * 96
    assert found.term.value("parent", "parent") == 4 * 192
    assert found.term.value("noop", "parent") == 0


@pytest.mark.states("types.not-linear")
def test_an_error_says_what_would_be_linear(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, search("require sum(ffn.width) * params <= 3")).diagnostics
    assert "constant * sum(ffn.width)" in found.help
    assert "two figures of one layer" in found.help


# ---------------------------------------------------------------- requirements


@pytest.mark.states("require.comparison")
def test_operators_and_reasons(tmp_path: Path) -> None:
    for op in ("<=", ">=", "<", ">", "=="):
        found = linear(tmp_path, f'params {op} 1M because "small"')
        assert (found.op, found.bound, found.because) == (op, 10**6, "small")


@pytest.mark.states("require.comparison")
def test_the_reason_is_shown_where_it_is_in_the_way(tmp_path: Path) -> None:
    result = solved(
        tmp_path, search('require params <= 0.1x because "the card"\n require count(ffn is noop) <= 0')
    )
    assert result.status == "infeasible"
    assert any("the card" in item.text or "the card" in item.because for item in result.conflict)


@pytest.mark.states("require.and")
def test_one_requirement_each(tmp_path: Path) -> None:
    found = requirements(
        tmp_path, 'params <= 1M and 1 <= count(ffn is noop) <= 2 and layers[0].ffn is mlp because "all"'
    )
    assert [(r.kind, r.because) for r in found] == [("linear", "all")] * 3 + [("logic", "all")]


@pytest.mark.states("require.equality")
def test_equality_of_whole_figures(tmp_path: Path) -> None:
    assert linear(tmp_path, "sum(ffn.width) == 384").op == "=="
    assert linear(tmp_path, "count(ffn is noop) == 2").op == "=="
    (found,) = requirements(tmp_path, "layers[0].ffn.width != 192")
    assert isinstance(found, nodes.LogicRequirement)
    assert sum(layer.ffn == "mlp96" for layer in best(tmp_path, "require sum(ffn.width) == 672")) == 1


@pytest.mark.states("require.ratio")
def test_ratios_are_the_parents(tmp_path: Path) -> None:
    found = linear(tmp_path, "0.6x >= sum(l.ffn.width for l in layers[1..])")
    assert (found.op, found.bound, found.parent_ratio) == ("<=", None, Fraction(3, 5))
    chosen = best(tmp_path, "require sum(ffn.width) <= 0.5x")
    assert sum({"parent": 192, "mlp96": 96, "noop": 0}[layer.ffn] for layer in chosen) <= 0.5 * 4 * 192
    slow = (
        solved(tmp_path, CARD + search("require talk.latency <= 0.8x")).solutions[0].metrics["talk.latency"]
    )
    whole = solved(
        tmp_path, CARD + search("require talk.latency <= 1x", goal="maximize params")
    ).parent_metrics["talk.latency"]
    assert slow <= 0.8 * whole


@pytest.mark.states("require.throughput")
def test_throughput_is_a_latency(tmp_path: Path) -> None:
    assert linear(tmp_path, "2 * chat.throughput >= 200 tok/s").bound == 100
    result = solved(tmp_path, CARD + search("require talk.throughput >= 1.2x"))
    metrics = result.solutions[0].metrics
    assert metrics["talk.throughput"] == pytest.approx(2 * 8 / metrics["talk.latency"])
    same = solved(
        tmp_path,
        CARD
        + search(f"require talk.latency <= {2 * 8 / (1.2 * result.parent_metrics['talk.throughput']):.12f}s"),
    )
    assert same.solutions[0].objective == result.solutions[0].objective


@pytest.mark.states("require.logic", "require.layer")
@pytest.mark.parametrize(
    ("condition", "law"),
    [
        ("layers[0].attention is noop and layers[1].attention is linear", lambda c: (c[0].attention, c[1].attention) == ("noop", "linear")),
        ("layers[0].ffn is noop or layers[1].ffn is noop", lambda c: "noop" in (c[0].ffn, c[1].ffn)),
        ("not layers[0].ffn is (parent | mlp)", lambda c: c[0].ffn == "noop"),
        ("layers[0].ffn is noop\n require layers[0].ffn is noop implies layers[1].ffn is noop", lambda c: c[0].ffn == c[1].ffn == "noop"),
        ("all(l.attention is linear for l in layers)", lambda c: all(x.attention == "linear" for x in c)),
        ("any(l.attention is linear for l in layers)", lambda c: any(x.attention == "linear" for x in c)),
        ("layers[0].attention.kv_heads <= 1 implies layers[0].ffn.width <= 96\n require layers[0].attention is noop", lambda c: c[0].ffn != "parent"),
        ("not layers[0].ffn.width == layers[1].ffn.width or layers[0] is noop", lambda c: c[0].ffn != c[1].ffn or c[0].attention == c[0].ffn == "noop"),
        ("layers[2] is noop", lambda c: (c[2].attention, c[2].ffn) == ("noop", "noop")),
        ("layers[2] is not parent", lambda c: (c[2].attention, c[2].ffn) != ("parent", "parent")),
    ],
)  # fmt: skip
def test_statements_hold_of_the_answer(tmp_path: Path, condition: str, law: object) -> None:
    assert callable(law)
    assert not law(best(tmp_path, ""))
    assert law(best(tmp_path, f"require {condition}"))


@pytest.mark.states("require.for")
def test_a_requirement_an_element(tmp_path: Path) -> None:
    body = "for i in 1..3 where i mod 2 == 1 { require layers[i].ffn is noop }"
    assert len(program(tmp_path, search(body)).searches["s"].requirements) == 2
    assert [layer.ffn for layer in best(tmp_path, body)] == ["parent", "noop", "parent", "noop"]


# ---------------------------------------------------------------- preferences, solutions, solvers


@pytest.mark.states("prefer.order", "prefer.statement")
def test_preferences_come_after_the_goal_in_order(tmp_path: Path) -> None:
    found = (
        program(tmp_path, search("prefer params\n prefer -chat.latency\n prefer layers[0].ffn is noop"))
        .searches["s"]
        .preferences
    )
    assert [p.sense for p in found] == ["maximize", "minimize", "maximize"]

    def ffn(*preferences: str) -> list[str]:
        lines = "\n ".join(("require count(ffn is noop) == 2", *preferences))
        return [layer.ffn for layer in best(tmp_path, lines)]

    assert ffn("prefer layers[3].ffn is noop", "prefer layers[2].ffn is noop") == [
        "parent",
        "parent",
        "noop",
        "noop",
    ]
    assert ffn("prefer layers[1].ffn is noop", "prefer layers[0].ffn is not noop", "prefer layers[3].ffn is noop") == [
        "parent", "noop", "parent", "noop",
    ]  # fmt: skip
    # a preference never costs the goal anything
    assert ffn("prefer count(ffn is mlp(width: 96))").count("mlp96") == 0


def differ(one: Sequence[LayerAssignment], other: Sequence[LayerAssignment]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.states("solutions.apart")
def test_solutions_apart(tmp_path: Path) -> None:
    found = solved(tmp_path, search("solutions 4 apart 3")).solutions
    assert len(found) == 4
    assert [s.objective for s in found] == sorted(s.objective for s in found)
    assert all(differ(a.layers, b.layers) >= 3 for i, a in enumerate(found) for b in found[:i])
    assert program(tmp_path, search("solutions 2")).searches["s"].apart == 1


@pytest.mark.states("search.batches", "scenario.auto", "scenario.batches")
def test_batches_are_decided(tmp_path: Path) -> None:
    text = CARD + "scenario many on g = batch(1 | 4 | 16, 8 -> 8)\nscenario all on g = batch(auto, 8 -> 8)\n"
    body = search("require all.throughput >= 0.1x", goal="maximize many.throughput")
    found = solved(tmp_path, text + body).solutions[0].batches
    assert found["many"] == 16
    assert found["all"] == max(c.batch for c in cost_table(program(tmp_path, text), "w").scenarios["all"])


@pytest.mark.states("scenario.batch-term", "scenario.auto")
def test_a_batch_is_bounded_and_aimed_at(tmp_path: Path) -> None:
    text = CARD + "scenario many on g = batch(1 | 4 | 16, 8 -> 8)\nscenario all on g = batch(auto, 8 -> 8)\n"

    def batches(body: str, goal: str = "minimize kl") -> dict[str, int]:
        return solved(tmp_path, text + search(body, goal=goal)).solutions[0].batches

    assert batches("require many.batch >= 2 and all.batch >= 32")["many"] == 4
    assert batches("require many.batch == 16")["many"] == 16
    assert batches("", goal="minimize many.batch")["many"] == 1
    assert batches("prefer many.batch")["many"] == 16
    listed = cost_table(program(tmp_path, text), "w")
    assert batches("require all.batch >= 2")["all"] == listed.auto["all"], "these children are tiny"


@pytest.mark.states("solver.fixed")
def test_drops_of_your_own(tmp_path: Path) -> None:
    layers = best(tmp_path, "require all(l is noop for l in layers[1..2])\nrequire params >= 30% * p.params")
    assert [(c.attention, c.ffn) == ("noop", "noop") for c in layers] == [False, True, True, False]


@pytest.mark.states("solver.choice")
def test_solver_settings(tmp_path: Path) -> None:
    found = program(tmp_path, search("solver = cpsat(time: 5min, gap: 0.1%, seed: 42)")).searches["s"].solver
    assert found == nodes.CpSat(time_s=Fraction(300), gap=Fraction(1, 1000), seed=42)
