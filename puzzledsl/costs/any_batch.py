"""Costs of a scenario on a profile at any batch, computed on demand: the candidates of `batch(auto, …)`.

A cost depends only on the alternative, not on its layer, so a batch needs about twenty costs, however many layers
there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.lines import CostLine, fixed_line, line_of
from puzzledsl.costs.memory import cache_room, largest_batch
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
    def attention(self) -> dict[str, CostLine]:
        """Every attention of the space, and the parent's, by name."""
        choices = chain.from_iterable(choice.attention for choice in self._choices.values())
        return {a.name: self._line(a) for a in dict.fromkeys((*choices, ParentAttention()))}

    @cached_property
    def ffn(self) -> dict[str, CostLine]:
        """Every FFN of the space, and the parent's, by name."""
        choices = chain.from_iterable(choice.ffn for choice in self._choices.values())
        return {f.name: self._line(f) for f in dict.fromkeys((*choices, ParentFfn()))}

    @cached_property
    def fixed(self) -> CostLine:
        """The part that no layer changes."""
        return fixed_line(self.hardware, self.shape, self.scenario)

    def _line(self, alternative: Alternative) -> CostLine:
        return line_of(self.hardware, self.shape, alternative, self.scenario)

    def costs(self, batch: int) -> BatchCosts:
        """The costs at a batch."""
        if batch not in self._costs:
            attention = {name: line.at(batch) for name, line in self.attention.items()}
            ffn = {name: line.at(batch) for name, line in self.ffn.items()}
            self._costs[batch] = BatchCosts(attention, ffn, self.fixed.at(batch))
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
        """Return the largest batch size at which a model fits, exactly; 0 if it does not fit at 1.

        Raises KeyError for an alternative that the space does not have.
        """
        attention = Counter(choice.attention for choice in layers)
        ffn = Counter(choice.ffn for choice in layers)
        weights = sum(n * self.attention[a].weights_bytes for a, n in attention.items())
        weights += sum(n * self.ffn[f].weights_bytes for f, n in ffn.items())
        room = cache_room(self.hardware, self.fixed.weights_bytes + weights)

        def fits(batch: int) -> bool:
            return sum(n * self.attention[a].cache_at(batch) for a, n in attention.items()) <= room

        return largest_batch(self.hardware.max_batch, fits)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """No model of the space has a largest batch below the first number or above the second (0: some, or all, fit at none)."""
        return self._extreme(max), self._extreme(min)

    def _extreme(self, pick: Callable[[Iterable[int]], int]) -> int:
        """The largest batch where every layer has the most (or the least) weights and the most (or the least) cache."""

        def weights(choice: LayerChoice) -> int:
            attention = pick(self.attention[a.name].weights_bytes for a in choice.attention)
            return attention + pick(self.ffn[f.name].weights_bytes for f in choice.ffn)

        def cache(batch: int) -> int:
            return sum(
                n * pick(self.attention[a.name].cache_at(batch) for a in choice.attention)
                for choice, n in self._counts
            )

        room = cache_room(
            self.hardware, self.fixed.weights_bytes + sum(n * weights(c) for c, n in self._counts)
        )
        return largest_batch(self.hardware.max_batch, lambda batch: cache(batch) <= room)


def _layer(costs: BatchCosts, choice: LayerChoice) -> tuple[dict[str, Cost], dict[str, Cost]]:
    attention, ffn = choice.by_name()
    return {n: costs.attention[n] for n in attention}, {n: costs.ffn[n] for n in ffn}


def any_batch(program: Program, space: Space, table: CostTable, scenario: str) -> AnyBatch | None:
    """The costs of a scenario at any batch, where it is `auto` on a profile; None where the table lists its batches."""
    if scenario not in table.auto:
        return None
    here = program.scenarios[scenario]
    spec = program.hardware[here.hardware].spec
    assert isinstance(spec, RooflineHardware), "only a profile has costs at any batch"
    return AnyBatch(spec, program.parents[space.parent].shape, space.layers, here)
