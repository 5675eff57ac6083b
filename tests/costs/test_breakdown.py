"""A breakdown loses nothing: its layers and parts add up to the metrics, in text and JSON."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.breakdown import PARENT, Breakdown, added, as_text, breakdown
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import LayerChoice, RooflineHardware, Shape
from puzzledsl.ir.tables import CostTable, LayerAssignment
from tests.costs.conftest import Build

CHOICE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=2, window=64), NoOpAttention()),
    ffn=(ParentFfn(), MlpFfn(width=14336), NoOpFfn()),
)
CHILD = [
    LayerAssignment(attention=("parent", "gqa2w64", "noop", "noop")[i % 4], ffn=("mlp14336", "noop")[i // 40])
    for i in range(80)
]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=[1, 4], ids=["one GPU", "four GPUs"])
def found(
    request: pytest.FixtureRequest, llama70b: Shape, h100: RooflineHardware, program: Build
) -> Breakdown:
    hardware = h100.model_copy(update={"gpus": request.param})
    made = program(llama70b, (CHOICE,) * 80, chat=(hardware, (8, 32), 128, 512))
    return breakdown(made, made.spaces["wide"], cost_table(made, "wide"), "chat", CHILD, "child x", 32)


def test_layers_and_parts_add_up_to_the_metrics(found: Breakdown) -> None:
    metrics = found.metrics
    for costs in ([found.fixed, *(layer.total for layer in found.layers)], list(found.parts.values())):
        total = added(costs)
        assert total.weights_bytes == metrics["weights"] and total.kv_cache_bytes == metrics["kv_cache"]
        assert Fraction(found.latency_ns(total), 10**9) == metrics["latency"]
        assert total.prefill_flop + found.costs.output * total.decode_flop == metrics["flops"]
    assert metrics["latency"] < found.parent_metrics["latency"]


def test_text_has_runs_of_equal_layers(found: Breakdown) -> None:
    text = as_text(found)
    assert re.search(r"^  0 +parent +mlp14336 ", text, re.MULTILINE)
    assert re.search(r"^  2-3 +noop +mlp14336 ", text, re.MULTILINE)
    assert re.search(r"^  78-79 +noop +noop +0 +0 +0 +0s +0s +0.0%$", text, re.MULTILINE)
    assert "x the parent's" in text and "batch 32, 128 -> 512 tokens" in text


def test_json_is_for_machines(found: Breakdown) -> None:
    told = json.loads(json.dumps(found.as_json()))
    assert len(told["layers"]) == 80 and told["layers"][79]["prefill_ns"] == 0
    assert sum(part["weights_bytes"] for part in told["parts"].values()) == told["metrics"]["weights"]


def test_a_table_is_shown_too(
    found: Breakdown, llama70b: Shape, program: Build, h100: RooflineHardware
) -> None:
    """A layer that was measured whole is one bar."""
    made = program(llama70b, (CHOICE,) * 80, chat=(h100, (), 128, 512))
    table: CostTable = cost_table(made, "wide")
    costs = table.scenarios["chat"][0]
    whole = costs.attention[0]["parent"]
    paired = costs.model_copy(update={"pairs": ({"parent/parent": whole},) * 80})
    table = table.model_copy(update={"scenarios": {"chat": (paired,)}, "auto": {}})
    one = breakdown(made, made.spaces["wide"], table, "chat", [PARENT] * 80, "parent p")
    assert set(one.parts) == {"layers", "embedding and head"} and one.layers[0].total == whole
    assert "layers" in as_text(one)


def test_an_automatic_batch_is_the_largest_that_fits(
    llama70b: Shape, h100: RooflineHardware, program: Build
) -> None:
    hardware = h100.model_copy(update={"gpus": 4})
    made = program(llama70b, (CHOICE,) * 80, chat=(hardware, (), 2048, 4096))
    table = cost_table(made, "wide")
    parent, child = (
        breakdown(made, made.spaces["wide"], table, "chat", layers, "it") for layers in ([PARENT] * 80, CHILD)
    )
    assert parent.costs.batch < child.costs.batch
    for one in (parent, child):
        assert one.metrics["memory"] <= hardware.memory_bytes
