"""Metrics against their definitions, written out."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.costs.metrics import chosen_costs, linear_metrics, metrics_of
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.ir.tables import Cost, LayerAssignment, ScenarioCosts

counts = st.integers(0, 10**12)
costs_st = st.builds(Cost, **dict.fromkeys(Cost.model_fields, counts))
sub_blocks = st.fixed_dictionaries({"parent": costs_st, "noop": costs_st})
NAMES = st.sampled_from(["parent", "noop"])


@st.composite
def scenario_costs(draw: st.DrawFn) -> ScenarioCosts:
    layers = draw(st.integers(1, 4))
    of_a_layer = st.dictionaries(st.sampled_from(["parent/noop", "noop/noop"]), costs_st)
    pairs = draw(st.lists(of_a_layer, min_size=layers, max_size=layers))
    return ScenarioCosts(
        scenario="s",
        batch=draw(st.integers(1, 512)),
        prompt=draw(st.integers(1, 9999)),
        output=draw(st.integers(1, 9999)),
        fixed=draw(costs_st),
        reserve_bytes=draw(counts),
        attention=tuple(draw(sub_blocks) for _ in range(layers)),
        ffn=tuple(draw(sub_blocks) for _ in range(layers)),
        pairs=tuple(pairs) if draw(st.booleans()) else (),
    )


@given(costs=scenario_costs(), data=st.data())
def test_metrics_are_their_definitions(costs: ScenarioCosts, data: st.DataObject) -> None:
    layers = [LayerAssignment(attention=data.draw(NAMES), ffn=data.draw(NAMES)) for _ in costs.attention]
    parts = [costs.fixed]
    for i, layer in enumerate(layers):
        pair = costs.pairs[i].get(f"{layer.attention}/{layer.ffn}") if costs.pairs else None
        parts += [pair] if pair else [costs.attention[i][layer.attention], costs.ffn[i][layer.ffn]]
    weights, cache = sum(c.weights_bytes for c in parts), sum(c.kv_cache_bytes for c in parts)
    ttft = Fraction(sum(c.prefill_ns for c in parts), 10**9)
    tpot = Fraction(sum(c.decode_ns for c in parts), 10**9)
    latency = ttft + costs.output * tpot
    assert metrics_of(costs, layers) == {
        "memory": costs.reserve_bytes + weights + cache,
        "weights": weights,
        "kv_cache": cache,
        "ttft": ttft,
        "tpot": tpot,
        "latency": latency,
        "throughput": costs.batch * costs.output / latency if latency else 0,
        "flops": sum(c.prefill_flop for c in parts) + costs.output * sum(c.decode_flop for c in parts),
        "batch": costs.batch,
    }
    assert set(linear_metrics(costs)) == set(TERMS) - {"throughput"}


@given(costs=scenario_costs())
def test_a_model_of_another_depth_or_with_another_alternative_has_no_metrics(costs: ScenarioCosts) -> None:
    layer = LayerAssignment(attention="noop", ffn="noop")
    with pytest.raises(ValueError, match="layers are chosen"):
        metrics_of(costs, [layer] * (len(costs.attention) + 1))
    with pytest.raises(KeyError):
        list(chosen_costs(costs, [LayerAssignment(attention="gqa9", ffn="noop")] * len(costs.attention)))
