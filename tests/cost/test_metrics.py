from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.cost.metrics import metrics_of
from puzzledsl.ir.tables import Cost, LayerAssignment, ScenarioCosts
from puzzledsl.search.metrics import metrics_at

counts = st.integers(0, 10**12)
costs_st = st.builds(
    Cost, params=counts, weights_bytes=counts, kv_cache_bytes=counts, prefill_ns=counts, decode_ns=counts
)
sub_blocks = st.fixed_dictionaries({"parent": costs_st, "noop": costs_st})


@st.composite
def scenario_costs(draw: st.DrawFn) -> ScenarioCosts:
    layers = draw(st.integers(1, 4))
    pairs = draw(
        st.lists(
            st.dictionaries(st.sampled_from(["parent/noop", "noop/noop"]), costs_st),
            min_size=layers,
            max_size=layers,
        )
    )
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
def test_costs_and_search_mean_the_same_by_every_metric(costs: ScenarioCosts, data: st.DataObject) -> None:
    """Two packages that may not import each other say it twice; the report and the search must never
    differ."""
    names = st.sampled_from(["parent", "noop"])
    layers = [
        LayerAssignment(attention=data.draw(names), ffn=data.draw(names)) for _ in range(len(costs.attention))
    ]
    assert metrics_of(costs, layers) == metrics_at(costs, layers)
