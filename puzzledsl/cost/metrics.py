"""The one definition of a scenario's metrics, from costs and a choice a layer. Exact: integers in, fractions
out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from puzzledsl.ir.tables import Cost, LayerAssignment, ScenarioCosts

NS_PER_S = 10**9


def chosen_costs(costs: ScenarioCosts, layers: Sequence[LayerAssignment]) -> Iterator[Cost]:
    """The costs that add up to a model: the fixed part, then each layer's pair, or its two sub-blocks.

    Raises KeyError for an alternative that is not in the table, ValueError for a wrong number of layers.
    """
    yield costs.fixed
    for index, (layer, attention, ffn) in enumerate(zip(layers, costs.attention, costs.ffn, strict=True)):
        pair = costs.pairs[index].get(f"{layer.attention}/{layer.ffn}") if costs.pairs else None
        if pair is not None:
            yield pair
        else:
            yield attention[layer.attention]
            yield ffn[layer.ffn]


def metrics_of(costs: ScenarioCosts, layers: Sequence[LayerAssignment]) -> dict[str, Fraction]:
    """A model's metrics in base units: `memory`, `weights`, `kv_cache` in bytes on each GPU; `latency`,
    `ttft`, `tpot` in seconds; `throughput` in generated tokens a second over all sequences of the batch
    (0 where nothing takes time).

    latency = prefill + output * decode; throughput = batch * output / latency;
    memory = reserve + weights + kv_cache.
    Raises KeyError for an alternative that is not in the table, ValueError for a wrong number of layers.
    """
    weights = cache = prefill_ns = decode_ns = 0
    for cost in chosen_costs(costs, layers):
        weights += cost.weights_bytes
        cache += cost.kv_cache_bytes
        prefill_ns += cost.prefill_ns
        decode_ns += cost.decode_ns
    latency = Fraction(prefill_ns + costs.output * decode_ns, NS_PER_S)
    return {
        "memory": Fraction(costs.reserve_bytes + weights + cache),
        "weights": Fraction(weights),
        "kv_cache": Fraction(cache),
        "latency": latency,
        "ttft": Fraction(prefill_ns, NS_PER_S),
        "tpot": Fraction(decode_ns, NS_PER_S),
        "throughput": costs.batch * costs.output / latency if latency else Fraction(0),
    }
