"""Costs of a scenario on a profile at any batch, computed on demand: the candidates of `batch(auto, …)`.

A cost depends on the alternative and on the layer's shape, not on its place: a batch needs about twenty costs for each
kind of layer, however many layers there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from functools import cached_property

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.frozen import record
from puzzledsl.costs.memory import cache_room, largest_batch
from puzzledsl.costs.roofline import FREE, CostLine, fixed_line, line_of
from puzzledsl.ir.hardware_nodes import running_costs
from puzzledsl.ir.nodes import EndsChoice, LayerChoice, Program, RooflineHardware, Scenario, Shape, Space
from puzzledsl.ir.tables import (
    PARENT_ENDS,
    Assignment,
    Cost,
    CostTable,
    ScenarioCosts,
    ends_of_child,
    layers_of_child,
)

Key = tuple[int, str]
"""Kind of layer (`AnyBatch.kinds`) and alternative's name."""
Costs = Mapping[Key, Cost]


@record
class BatchCosts:
    """The cost of every alternative at one batch, by kind of layer and name, and of the model's ends by their names."""

    attention: Costs
    ffn: Costs
    ends: dict[str, Cost]


@record(eq=False)
class AnyBatch:
    """A scenario on a profile. Everything asked for is remembered."""

    hardware: RooflineHardware
    shape: Shape
    layers: tuple[LayerChoice, ...]
    scenario: Scenario
    choice: EndsChoice | None = None
    _costs: dict[int, BatchCosts] = field(default_factory=dict)
    _tables: dict[int, ScenarioCosts] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The kind of each layer: layers of one kind have one shape. In the order of the first of them."""
        return self.shape.kind_of_each

    @cached_property
    def _shapes(self) -> tuple[Shape, ...]:
        """The shape of each kind of layer."""
        return tuple(shape for shape, _ in self.shape.kinds())

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        """Each layer's kind, and its choice by identity: hashing one takes long."""
        return [(kind, id(choice)) for kind, choice in zip(self.kinds, self.layers, strict=True)]

    @cached_property
    def _choices(self) -> dict[tuple[int, int], LayerChoice]:
        """Each choice of each kind of layer once."""
        return dict(zip(self._places, self.layers, strict=True))

    @cached_property
    def _counts(self) -> list[tuple[int, LayerChoice, int]]:
        """Each choice of each kind of layer, and how many layers have it."""
        counts = Counter(self._places)
        return [(place[0], choice, counts[place]) for place, choice in self._choices.items()]

    @cached_property
    def attention(self) -> dict[Key, CostLine]:
        """Every attention of the space, and the parent's, in the kinds of layers that may have it."""
        return self._lines(ParentAttention(), lambda choice: choice.attention)

    @cached_property
    def ffn(self) -> dict[Key, CostLine]:
        """Every FFN of the space, and the parent's, in the kinds of layers that may have it."""
        return self._lines(ParentFfn(), lambda choice: choice.ffn)

    def _lines(
        self, parent: Alternative, part: Callable[[LayerChoice], Sequence[Alternative]]
    ) -> dict[Key, CostLine]:
        alternatives: dict[int, dict[Alternative, None]] = {kind: {} for kind in range(len(self._shapes))}
        for (kind, _), choice in self._choices.items():
            alternatives[kind] |= dict.fromkeys(part(choice))
        return {
            (kind, a.name): line_of(self.hardware, self._shapes[kind], a, self.scenario)
            for kind, offered in alternatives.items()
            for a in {**offered, parent: None}
        }

    @cached_property
    def ends(self) -> dict[str, CostLine]:
        """Embedding, final norm and head, by the types that the ends may have, the parent's among them."""
        known = (self.choice or EndsChoice()).by_name()
        return {name: fixed_line(self.hardware, self.shape, *both) for name, both in known.items()}

    def costs(self, batch: int) -> BatchCosts:
        """The costs at a batch."""
        if batch not in self._costs:
            attention = {key: line.at(batch) for key, line in self.attention.items()}
            ffn = {key: line.at(batch) for key, line in self.ffn.items()}
            self._costs[batch] = BatchCosts(
                attention, ffn, {n: line.at(batch) for n, line in self.ends.items()}
            )
        return self._costs[batch]

    def at(self, batch: int) -> ScenarioCosts:
        """The costs at a batch as a cost table has them. Layers alike in kind and choice share their dictionaries."""
        if batch not in self._tables:
            costs = self.costs(batch)
            known = {place: _layer(costs, place[0], choice) for place, choice in self._choices.items()}
            self._tables[batch] = ScenarioCosts(
                scenario=self.scenario.name,
                batch=batch,
                prompt=self.scenario.prompt,
                output=self.scenario.output,
                fixed=costs.ends[PARENT_ENDS.name] if self.choice is None else FREE,
                ends={} if self.choice is None else costs.ends,
                reserve_bytes=self.hardware.reserve_bytes,
                attention=tuple(known[place][0] for place in self._places),
                ffn=tuple(known[place][1] for place in self._places),
                capacity_bytes=self.hardware.memory_bytes,
                kv_fraction=self.hardware.kv_fraction,
                **running_costs(self.hardware),
            )
        return self._tables[batch]

    def largest(self, child: Sequence[Assignment]) -> int:
        """Return the largest batch at which a model fits, 0 if none. Raises KeyError for an alternative that is not offered."""
        layers = layers_of_child(child)
        attention = Counter((kind, choice.attention) for kind, choice in zip(self.kinds, layers, strict=True))
        ffn = Counter((kind, choice.ffn) for kind, choice in zip(self.kinds, layers, strict=True))
        weights = sum(n * self.attention[a].weights_bytes for a, n in attention.items())
        weights += sum(n * self.ffn[f].weights_bytes for f, n in ffn.items())
        weights += self.ends[ends_of_child(child).name].weights_bytes
        room = cache_room(self.hardware, weights)

        def fits(batch: int) -> bool:
            return sum(n * self.attention[a].cache_at(batch) for a, n in attention.items()) <= room

        return largest_batch(self.hardware.max_batch, fits)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """No model of the space has a largest batch below the first number or above the second (0: some, or all, fit at none)."""
        return self._extreme(max), self._extreme(min)

    def _extreme(self, pick: Callable[[Iterable[int]], int]) -> int:
        """The largest batch where every layer has the most (or the least) weights and the most (or the least) cache."""

        def weights(kind: int, choice: LayerChoice) -> int:
            attention = pick(self.attention[kind, a.name].weights_bytes for a in choice.attention)
            return attention + pick(self.ffn[kind, f.name].weights_bytes for f in choice.ffn)

        def cache(batch: int) -> int:
            return sum(
                n * pick(self.attention[kind, a.name].cache_at(batch) for a in choice.attention)
                for kind, choice, n in self._counts
            )

        offered = (self.choice or EndsChoice()).offered
        ends = pick(self.ends[name].weights_bytes for name in offered)
        room = cache_room(self.hardware, ends + sum(n * weights(kind, c) for kind, c, n in self._counts))
        return largest_batch(self.hardware.max_batch, lambda batch: cache(batch) <= room)


def _layer(costs: BatchCosts, kind: int, choice: LayerChoice) -> tuple[dict[str, Cost], dict[str, Cost]]:
    attention, ffn = choice.by_name()
    return {n: costs.attention[kind, n] for n in attention}, {n: costs.ffn[kind, n] for n in ffn}


def any_batch(program: Program, space: Space, table: CostTable, scenario: str) -> AnyBatch | None:
    """The costs of a scenario at any batch, where it is `auto` on a profile; None where the table lists its batches."""
    if scenario not in table.auto:
        return None
    here = program.scenarios[scenario]
    spec = program.hardware[here.hardware].spec
    assert isinstance(spec, RooflineHardware), "only a profile has costs at any batch"
    return AnyBatch(spec, program.parents[space.parent].shape, space.layers, here, space.ends)
