"""Searches: goals, requirements, preferences, solvers; what is refused of frontiers and `refine` too."""

from pathlib import Path

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerAssignment, ScoreTable, SearchResult
from puzzledsl.search.solve import solve_search
from tests.language.rules import CARD, program, search

TALK = CARD + "scenario talk on g = batch(2, 8 -> 8)\n"
AUTO = "scenario many on g = batch(1 | 4 | 16, 8 -> 8)\nscenario all on g = batch(auto, 8 -> 8)\n"
SCORES = {"gqa2": 0.2, "gqa1": 0.3, "linear": 0.5, "noop": 0.4}
FFN_SCORES = {"mlp96": 0.1, "noop": 0.9}


def solved(folder: Path, text: str, name: str = "s") -> SearchResult:
    """The answer to a search over the prelude's space with made-up scores."""
    found = program(folder, text)
    scores = ScoreTable(score="kl", metric="table", samples=0, attention=(SCORES,) * 4, ffn=(FFN_SCORES,) * 4)
    return solve_search(found, name, cost_table(found, "w"), {"kl": scores})


def best(folder: Path, body: str, goal: str = "minimize kl") -> tuple[LayerAssignment, ...]:
    result = solved(folder, TALK + search(body, goal))
    assert result.status == "optimal"
    return result.solutions[0].layers


# ---------------------------------------------------------------- the search itself


@pytest.mark.states("types.pair")
def test_a_pair_table_has_both_axes(tmp_path: Path) -> None:
    goal = "minimize layers[1].attention.kv_heads * layers[1].ffn.width"
    (found,) = program(tmp_path, search("", goal)).searches["s"].objective.terms
    assert isinstance(found.term, nodes.TableTerm) and found.term.layers == (1,)
    cells = {("gqa2", "mlp96"): 2 * 96, ("parent", "parent"): 4 * 192, ("noop", "parent"): 0}
    assert {pair: found.term.value(*pair) for pair in cells} == cells


# ---------------------------------------------------------------- requirements


@pytest.mark.states("require.ratio")
def test_ratios_are_the_parents(tmp_path: Path) -> None:
    chosen = best(tmp_path, "require sum(ffn.width) <= 0.5x")
    assert sum({"parent": 192, "mlp96": 96, "noop": 0}[layer.ffn] for layer in chosen) <= 0.5 * 4 * 192
    result = solved(tmp_path, TALK + search("require talk.latency <= 0.8x"))
    assert result.solutions[0].metrics["talk.latency"] <= 0.8 * result.parent_metrics["talk.latency"]


@pytest.mark.states("require.throughput")
def test_throughput_is_a_latency(tmp_path: Path) -> None:
    result = solved(tmp_path, TALK + search("require talk.throughput >= 1.2x"))
    metrics = result.solutions[0].metrics
    assert metrics["talk.throughput"] == pytest.approx(2 * 8 / metrics["talk.latency"])
    latency = 2 * 8 / (1.2 * result.parent_metrics["talk.throughput"])
    same = solved(tmp_path, TALK + search(f"require talk.latency <= {latency:.12f}s"))
    assert same.solutions[0].objective == result.solutions[0].objective


@pytest.mark.states("require.for")
def test_a_requirement_an_element(tmp_path: Path) -> None:
    body = "for i in 1..3 where i mod 2 == 1 { require layers[i].ffn is noop }"
    assert len(program(tmp_path, search(body)).searches["s"].requirements) == 2
    assert [layer.ffn for layer in best(tmp_path, body)] == ["parent", "noop", "parent", "noop"]


# ---------------------------------------------------------------- preferences, solutions, solvers


@pytest.mark.states("prefer.order", "prefer.statement")
def test_preferences_come_after_the_goal_in_order(tmp_path: Path) -> None:
    text = search("prefer params\n prefer -chat.latency\n prefer layers[0].ffn is noop")
    found = program(tmp_path, text).searches["s"].preferences
    assert [p.sense for p in found] == ["maximize", "minimize", "maximize"]

    def ffn(*preferences: str) -> str:
        lines = "\n ".join(("require count(ffn is noop) == 2", *preferences))
        return " ".join(layer.ffn for layer in best(tmp_path, lines))

    late = ffn("prefer layers[3].ffn is noop", "prefer layers[2].ffn is noop")
    assert late == "parent parent noop noop"
    first, second = "prefer layers[1].ffn is noop", "prefer layers[0].ffn is not noop"
    assert ffn(first, second, "prefer layers[3].ffn is noop") == "parent noop parent noop"
    # a preference never costs the goal anything
    assert "mlp96" not in ffn("prefer count(ffn is mlp(width: 96))")


@pytest.mark.states("search.batches", "scenario.batch-term", "scenario.auto", "scenario.batches")
def test_a_batch_is_decided_bounded_and_aimed_at(tmp_path: Path) -> None:
    def batches(body: str, goal: str = "minimize kl") -> dict[str, int]:
        return solved(tmp_path, TALK + AUTO + search(body, goal=goal)).solutions[0].batches

    listed = cost_table(program(tmp_path, TALK + AUTO), "w")
    largest = max(costs.batch for costs in listed.scenarios["all"])
    aimed = batches("require all.throughput >= 0.1x", "maximize many.throughput")
    assert aimed == {"talk": 2, "many": 16, "all": largest}
    assert batches("require many.batch >= 2 and all.batch >= 32")["many"] == 4
    assert batches("require many.batch == 16")["many"] == 16
    assert batches("", goal="minimize many.batch")["many"] == 1
    assert batches("prefer many.batch")["many"] == 16
    assert batches("require all.batch >= 2")["all"] == listed.auto["all"], "these children are tiny"


@pytest.mark.states("solver.fixed")
def test_drops_of_your_own(tmp_path: Path) -> None:
    layers = best(tmp_path, "require all(l is noop for l in layers[1..2])\nrequire params >= 30% * p.params")
    assert [(c.attention, c.ffn) == ("noop", "noop") for c in layers] == [False, True, True, False]
