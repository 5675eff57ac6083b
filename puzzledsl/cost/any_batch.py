"""Costs of a scenario on a profile at any batch, computed as they are asked for: what `batch(auto, …)` chooses from.

A cost depends on the alternative alone, not on its layer, so a batch is some twenty costs however many layers there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from puzzledsl.cost.flops import Workload
from puzzledsl.cost.memory import cache_room, fixed_bytes, kv_cache_bytes, largest_batch, weights_bytes
from puzzledsl.cost.parameters import kv_heads_of, size_of
from puzzledsl.cost.roofline import fixed_cost, sub_block_cost
from puzzledsl.ir import facts
from puzzledsl.ir.alternatives import (
    Alternative,
    AttentionAlternative,
    FfnAlternative,
    ParentAttention,
    ParentFfn,
    name_of,
)
from puzzledsl.ir.nodes import LayerChoice, Program, RooflineHardware, Scenario, Shape, Space
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts

Costs = Mapping[str, Cost]


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """The cost of every alternative at one batch, by its name, and of what no layer changes."""

    attention: Costs
    ffn: Costs
    fixed: Cost


@dataclass(frozen=True, eq=False)
class AnyBatch:
    """A scenario on a profile. Everything asked for is remembered."""

    hardware: RooflineHardware
    shape: Shape
    layers: tuple[LayerChoice, ...]
    scenario: Scenario
    _costs: dict[int, BatchCosts] = field(default_factory=dict)
    _tables: dict[int, ScenarioCosts] = field(default_factory=dict)

    @cached_property
    def _choices(self) -> dict[int, LayerChoice]:
        """Each layer's choice once, by its identity: hashing one takes long."""
        return {id(choice): choice for choice in self.layers}

    @cached_property
    def _counts(self) -> list[tuple[LayerChoice, int]]:
        """Each choice, and how many layers have it."""
        counts = Counter(map(id, self.layers))
        return [(choice, counts[key]) for key, choice in self._choices.items()]

    @cached_property
    def attention(self) -> dict[str, AttentionAlternative]:
        """Every attention of the space, and the parent's, by name."""
        choices = chain.from_iterable(choice.attention for choice in self._choices.values())
        return {name_of(a): a for a in (*choices, ParentAttention())}

    @cached_property
    def ffn(self) -> dict[str, FfnAlternative]:
        """Every FFN of the space, and the parent's, by name."""
        choices = chain.from_iterable(choice.ffn for choice in self._choices.values())
        return {name_of(f): f for f in (*choices, ParentFfn())}

    def costs(self, batch: int) -> BatchCosts:
        """The costs at a batch."""
        if batch not in self._costs:
            work = self._work(batch)

            def each(alternatives: Mapping[str, Alternative]) -> Costs:
                return {n: sub_block_cost(self.hardware, self.shape, a, work) for n, a in alternatives.items()}

            fixed = fixed_cost(self.hardware, self.shape, work)
            self._costs[batch] = BatchCosts(each(self.attention), each(self.ffn), fixed)
        return self._costs[batch]

    def at(self, batch: int) -> ScenarioCosts:
        """The costs at a batch as a cost table has them. Layers of the same choice share their dictionaries."""
        if batch not in self._tables:
            costs = self.costs(batch)
            known = {key: _layer(costs, choice) for key, choice in self._choices.items()}
            self._tables[batch] = ScenarioCosts.model_construct(
                scenario=self.scenario.name,
                batch=batch,
                prompt=self.scenario.prompt,
                output=self.scenario.output,
                fixed=costs.fixed,
                reserve_bytes=self.hardware.reserve_bytes,
                attention=tuple(known[id(choice)][0] for choice in self.layers),
                ffn=tuple(known[id(choice)][1] for choice in self.layers),
                capacity_bytes=self.hardware.memory_bytes,
                kv_fraction=self.hardware.kv_fraction,
            )
        return self._tables[batch]

    def largest(self, layers: Sequence[LayerAssignment]) -> int:
        """The largest batch that a model fits at, exactly; 0 where it does not fit at 1. Raises KeyError for an alternative
        that the space does not have."""
        attention = Counter(choice.attention for choice in layers)
        ffn = Counter(choice.ffn for choice in layers)
        weights = sum(n * self._weights(self.attention[a]) for a, n in attention.items())
        weights += sum(n * self._weights(self.ffn[f]) for f, n in ffn.items())
        room = cache_room(self.hardware, fixed_bytes(self.hardware, self.shape) + weights)

        def fits(batch: int) -> bool:
            return sum(n * self._cache(self.attention[a], batch) for a, n in attention.items()) <= room

        return largest_batch(self.hardware.max_batch, fits)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """No model of the space has a largest batch below the first number or above the second (0: some, or all, fit at none)."""
        return self._extreme(max), self._extreme(min)

    def _extreme(self, pick: Callable[[Iterable[int]], int]) -> int:
        """The largest batch where every layer has the most (or the least) weights and the most (or the least) cache."""

        def weights(choice: LayerChoice) -> int:
            return pick(map(self._weights, choice.attention)) + pick(map(self._weights, choice.ffn))

        def cache(batch: int) -> int:
            return sum(n * pick(self._cache(a, batch) for a in choice.attention) for choice, n in self._counts)

        fixed = fixed_bytes(self.hardware, self.shape)
        room = cache_room(self.hardware, fixed + sum(n * weights(choice) for choice, n in self._counts))
        return largest_batch(self.hardware.max_batch, lambda batch: cache(batch) <= room)

    def _weights(self, alternative: Alternative) -> int:
        size = size_of(self.shape, alternative, self.hardware.gpus)
        return weights_bytes(self.hardware, size) if size.params else 0

    def _cache(self, alternative: AttentionAlternative, batch: int) -> int:
        heads, window = kv_heads_of(self.shape, alternative), facts.window(alternative, self.shape)
        return kv_cache_bytes(self.hardware, self.shape, heads, window, self._work(batch)) if heads else 0

    def _work(self, batch: int) -> Workload:
        return Workload(batch, self.scenario.prompt, self.scenario.output)


def _layer(costs: BatchCosts, choice: LayerChoice) -> tuple[dict[str, Cost], dict[str, Cost]]:
    attention = map(name_of, (*choice.attention, ParentAttention()))
    ffn = map(name_of, (*choice.ffn, ParentFfn()))
    return {n: costs.attention[n] for n in attention}, {n: costs.ffn[n] for n in ffn}


def any_batch(program: Program, space: Space, table: CostTable, scenario: str) -> AnyBatch | None:
    """The costs of a scenario at any batch, where it is `auto` on a profile; None where the table lists its batches."""
    if scenario not in table.auto:
        return None
    here = program.scenarios[scenario]
    spec = program.hardware[here.hardware].spec
    assert isinstance(spec, RooflineHardware), "only a profile has costs at any batch"
    return AnyBatch(spec, program.parents[space.parent].shape, space.layers, here)
