"""A breakdown loses nothing: its layers and parts add up to the metrics, in text and JSON."""

import json
import re
from fractions import Fraction

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.breakdown import Breakdown, added, as_text, breakdown
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.ir.tables import LayerAssignment
from tests.costs.cases import H100, LLAMA_70B, PARENT, program, with_changes

CHOICE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=2, window=64), NoOpAttention()),
    ffn=(ParentFfn(), MlpFfn(width=14336), NoOpFfn()),
)
CHILD = [
    LayerAssignment(attention=("parent", "gqa2w64", "noop", "noop")[i % 4], ffn=("mlp14336", "noop")[i // 40])
    for i in range(80)
]


@pytest.mark.parametrize("gpus", [1, 4])
def test_layers_and_parts_add_up_to_the_metrics_in_text_and_json(gpus: int) -> None:
    made = program(LLAMA_70B, (CHOICE,) * 80, chat=(with_changes(H100, gpus=gpus), (8, 32), 128, 512))
    found = breakdown(made, made.spaces["wide"], cost_table(made, "wide"), "chat", CHILD, "child x", 32)
    metrics = found.metrics
    for costs in ([found.fixed, *(layer.total for layer in found.layers)], list(found.parts.values())):
        total = added(costs)
        assert (total.weights_bytes, total.kv_cache_bytes) == (metrics["weights"], metrics["kv_cache"])
        assert Fraction(found.latency_ns(total), 10**9) == metrics["latency"]
        assert total.prefill_flop + found.costs.output * total.decode_flop == metrics["flops"]
    assert metrics["latency"] < found.parent_metrics["latency"]
    text = as_text(found)
    assert re.search(r"^  0 +parent +mlp14336 ", text, re.MULTILINE)
    assert re.search(r"^  2-3 +noop +mlp14336 ", text, re.MULTILINE), "equal layers are one row"
    assert re.search(r"^  78-79 +noop +noop +0 +0 +0 +0s +0s +0.0%$", text, re.MULTILINE)
    assert "x the parent's" in text and "batch 32, 128 -> 512 tokens" in text
    told = json.loads(json.dumps(found.as_json()))
    assert len(told["layers"]) == 80 and told["layers"][79]["prefill_ns"] == 0
    assert sum(part["weights_bytes"] for part in told["parts"].values()) == told["metrics"]["weights"]


def test_an_automatic_batch_is_the_largest_that_fits() -> None:
    four = with_changes(H100, gpus=4)
    made = program(LLAMA_70B, (CHOICE,) * 80, chat=(four, (), 2048, 4096))
    table = cost_table(made, "wide")

    def of(layers: list[LayerAssignment]) -> Breakdown:
        return breakdown(made, made.spaces["wide"], table, "chat", layers, "it")

    parent, child = of([PARENT] * 80), of(CHILD)
    assert parent.costs.batch < child.costs.batch
    assert max(parent.metrics["memory"], child.metrics["memory"]) <= four.memory_bytes
