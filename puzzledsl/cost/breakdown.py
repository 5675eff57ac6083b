"""Where a model's time and bytes go: layer by layer, part by part and, on a roofline, cause by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from puzzledsl.cost.any_batch import any_batch
from puzzledsl.cost.flops import Workload
from puzzledsl.cost.roofline import Times, fixed_times, sub_block_times
from puzzledsl.ir.alternatives import Alternative, ParentAttention, ParentFfn, name_of
from puzzledsl.ir.metrics import costs_of_layer, fits, metrics_of
from puzzledsl.ir.nodes import Program, RooflineHardware, Space
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts

PARENT = LayerAssignment(attention="parent", ffn="parent")
NS_PER_S = 10**9
NOTHING = Cost(params=0, weights_bytes=0, kv_cache_bytes=0, prefill_ns=0, decode_ns=0)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer: its choice and what its sub-blocks cost. `whole` in place of the two where a table has only the pair."""

    index: int
    choice: LayerAssignment
    attention: Cost
    ffn: Cost
    whole: Cost | None = None

    @property
    def total(self) -> Cost:
        """Both sub-blocks."""
        return self.whole or added([self.attention, self.ffn])


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A model in one scenario at one batch. `causes`: seconds of a prefill and of a decode step; None but on a roofline."""

    model: str
    scenario: str
    hardware: str
    provenance: str
    batch: int
    prompt: int
    output: int
    reserve_bytes: int
    fixed: Cost
    layers: tuple[LayerCost, ...]
    metrics: dict[str, Fraction]
    parent_metrics: dict[str, Fraction]
    causes: tuple[Times, Times] | None
    unknown: tuple[str, ...] = ()  # metrics that a table leaves open: what they have here means nothing

    @property
    def parts(self) -> dict[str, Cost]:
        """The sum of the attentions, of the FFNs, of layers that are only known whole, and what no layer changes."""
        found = {
            "attention": added([layer.attention for layer in self.layers]),
            "ffn": added([layer.ffn for layer in self.layers]),
            "layers": added([layer.whole for layer in self.layers if layer.whole]),
            "embedding and head": self.fixed,
        }
        return {name: cost for name, cost in found.items() if cost != NOTHING}

    def _known(self, metrics: dict[str, Fraction]) -> dict[str, float]:
        return {name: float(value) for name, value in metrics.items() if name not in self.unknown}

    def latency_ns(self, cost: Cost) -> int:
        """A cost's share of the latency of one batch: prefill and all output tokens."""
        return cost.prefill_ns + self.output * cost.decode_ns

    def as_json(self) -> dict[str, object]:
        """For machines: bytes, nanoseconds, FLOP, seconds."""
        causes = self.causes and {
            phase: {name: float(value) for name, value in asdict(times).items()}
            for phase, times in zip(("prefill_s", "decode_s"), self.causes, strict=True)
        }
        return {
            "model": self.model,
            "scenario": self.scenario,
            "hardware": self.hardware,
            "provenance": self.provenance,
            "batch": self.batch,
            "prompt": self.prompt,
            "output": self.output,
            "metrics": self._known(self.metrics),
            "parent_metrics": self._known(self.parent_metrics),
            "reserve_bytes": self.reserve_bytes,
            "parts": {name: cost.model_dump() for name, cost in self.parts.items()},
            "causes": causes,
            "layers": [
                {"layer": x.index, **x.choice.model_dump(), **x.total.model_dump()} for x in self.layers
            ],
        }


def added(costs: Sequence[Cost]) -> Cost:
    """The sum of costs, field by field."""
    return Cost(**{name: sum(getattr(cost, name) for cost in costs) for name in Cost.model_fields})


def costs_at(
    program: Program,
    space: Space,
    table: CostTable,
    scenario: str,
    layers: Sequence[LayerAssignment],
    batch: int | None = None,
) -> ScenarioCosts:
    """The costs at a batch; without one, at the largest where the model fits (the smallest where it fits at none).

    Raises KeyError for an alternative or a batch that there are no costs of.
    """
    anywhere = any_batch(program, space, table, scenario)
    if anywhere is not None:
        return anywhere.at(batch or anywhere.largest(layers) or 1)
    candidates = table.scenarios[scenario]
    if batch is None:
        return [*candidates[:1], *(costs for costs in candidates if fits(costs, layers))][-1]
    found = [costs for costs in candidates if costs.batch == batch]
    if not found:
        raise KeyError((scenario, batch))
    return found[0]


def breakdown(
    program: Program,
    space: Space,
    table: CostTable,
    scenario: str,
    layers: Sequence[LayerAssignment],
    model: str,
    batch: int | None = None,
) -> Breakdown:
    """Where one model's costs in one scenario go. Raises KeyError for an alternative or a batch that is not in the table."""
    costs = costs_at(program, space, table, scenario, layers, batch)
    hardware = program.hardware[program.scenarios[scenario].hardware]
    return Breakdown(
        model=model,
        scenario=scenario,
        hardware=hardware.name,
        provenance=table.provenance.get(scenario, ""),
        batch=costs.batch,
        prompt=costs.prompt,
        output=costs.output,
        reserve_bytes=costs.reserve_bytes,
        fixed=costs.fixed,
        layers=tuple(_layer(costs, index, choice) for index, choice in enumerate(layers)),
        metrics=metrics_of(costs, layers),
        parent_metrics=metrics_of(costs, [PARENT] * len(layers)),
        causes=_causes(program, space, hardware.spec, costs, layers)
        if isinstance(hardware.spec, RooflineHardware)
        else None,
        unknown=costs.unknown,
    )


def _layer(costs: ScenarioCosts, index: int, choice: LayerAssignment) -> LayerCost:
    found = costs_of_layer(costs, index, choice)
    if len(found) == 1:
        return LayerCost(index, choice, NOTHING, NOTHING, found[0])
    return LayerCost(index, choice, *found)


def _causes(
    program: Program,
    space: Space,
    hardware: RooflineHardware,
    costs: ScenarioCosts,
    layers: Sequence[LayerAssignment],
) -> tuple[Times, Times]:
    shape = program.parents[space.parent].shape
    work = Workload(costs.batch, costs.prompt, costs.output)
    head = fixed_times(hardware, shape, work)
    prefill, decode = head, head
    known: dict[Alternative, tuple[Times, Times]] = {}
    for choice, chosen in zip(space.layers, layers, strict=True):
        attention = {name_of(a): a for a in (*choice.attention, ParentAttention())}[chosen.attention]
        ffn = {name_of(f): f for f in (*choice.ffn, ParentFfn())}[chosen.ffn]
        for alternative in (attention, ffn):
            if alternative not in known:
                known[alternative] = sub_block_times(hardware, shape, alternative, work)
            prefill += known[alternative][0]
            decode += known[alternative][1]
    return prefill, decode
