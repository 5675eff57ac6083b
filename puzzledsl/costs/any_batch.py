"""Costs of a scenario on a profile at any batch, computed on demand: the candidates of `batch(auto, …)`.

A cost depends on the alternative and on the layer's shape, not on its place: a batch needs about twenty costs for each
kind of layer, however many layers there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import cached_property

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.alternatives.parent import PARENTS
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


@record(eq=False)
class AnyBatch:
    """A scenario on a profile. Everything asked for is remembered."""

    hardware: RooflineHardware
    shape: Shape
    layers: tuple[LayerChoice, ...]
    scenario: Scenario
    choice: EndsChoice | None = None
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
    def lines(self) -> dict[SubBlock, dict[Key, CostLine]]:
        """Every alternative of the space, and the parent's, in the kinds of layers that may have it."""
        return {part: self._lines(part) for part in SUB_BLOCKS}

    def _lines(self, part: SubBlock) -> dict[Key, CostLine]:
        pairs = ((kind, a) for (kind, _), choice in self._choices.items() for a in getattr(choice, part))
        parents = ((kind, PARENTS[part]) for kind in range(len(self._shapes)))
        return {
            (kind, a.name): line_of(self.hardware, self._shapes[kind], a, self.scenario)
            for kind, a in dict.fromkeys((*pairs, *parents))
        }

    @cached_property
    def ends(self) -> dict[str, CostLine]:
        """Embedding, final norm and head, by the types that the ends may have, the parent's among them."""
        known = (self.choice or EndsChoice()).by_name()
        return {name: fixed_line(self.hardware, self.shape, *both) for name, both in known.items()}

    def at(self, batch: int) -> ScenarioCosts:
        """The costs at a batch as a cost table has them. Layers alike in kind and choice share their dictionaries."""
        if batch not in self._tables:
            ends = {name: line.at(batch) for name, line in self.ends.items()}
            self._tables[batch] = ScenarioCosts(
                scenario=self.scenario.name,
                batch=batch,
                prompt=self.scenario.prompt,
                output=self.scenario.output,
                fixed=ends[PARENT_ENDS.name] if self.choice is None else FREE,
                ends={} if self.choice is None else ends,
                reserve_bytes=self.hardware.reserve_bytes,
                attention=self._layers("attention", batch),
                ffn=self._layers("ffn", batch),
                capacity_bytes=self.hardware.memory_bytes,
                kv_fraction=self.hardware.kv_fraction,
                **running_costs(self.hardware),
            )
        return self._tables[batch]

    def _layers(self, part: SubBlock, batch: int) -> tuple[dict[str, Cost], ...]:
        """Return each layer's costs of what it may have, by name."""
        costs = {key: line.at(batch) for key, line in self.lines[part].items()}
        known = {
            place: {a.name: costs[place[0], a.name] for a in getattr(choice.with_parent(), part)}
            for place, choice in self._choices.items()
        }
        return tuple(known[place] for place in self._places)

    def largest(self, child: Sequence[Assignment]) -> int:
        """Return the largest batch at which a model fits, 0 if none. Raises KeyError for an alternative that is not offered."""
        layers = [*zip(self.kinds, layers_of_child(child), strict=True)]
        chosen = {
            part: Counter(self.lines[part][kind, getattr(choice, part)] for kind, choice in layers)
            for part in SUB_BLOCKS
        }
        weights = sum(n * line.weights_bytes for lines in chosen.values() for line, n in lines.items())
        room = cache_room(self.hardware, weights + self.ends[ends_of_child(child).name].weights_bytes)

        def fits(batch: int) -> bool:
            return sum(n * line.cache_at(batch) for line, n in chosen["attention"].items()) <= room

        return largest_batch(self.hardware.max_batch, fits)

    @cached_property
    def reach(self) -> tuple[int, int]:
        """No model of the space has a largest batch below the first number or above the second (0: some, or all, fit at none)."""
        return self._extreme(max), self._extreme(min)

    def _extreme(self, pick: Callable[[Iterable[int]], int]) -> int:
        """The largest batch where every layer has the most (or the least) weights and the most (or the least) cache."""

        def weights(kind: int, choice: LayerChoice) -> int:
            return sum(
                pick(self.lines[part][kind, a.name].weights_bytes for a in getattr(choice, part))
                for part in SUB_BLOCKS
            )

        def cache(batch: int) -> int:
            return sum(
                n * pick(self.lines["attention"][kind, a.name].cache_at(batch) for a in choice.attention)
                for kind, choice, n in self._counts
            )

        offered = (self.choice or EndsChoice()).offered
        ends = pick(self.ends[name].weights_bytes for name in offered)
        room = cache_room(self.hardware, ends + sum(n * weights(kind, c) for kind, c, n in self._counts))
        return largest_batch(self.hardware.max_batch, lambda batch: cache(batch) <= room)


def any_batch(program: Program, space: Space, table: CostTable, scenario: str) -> AnyBatch | None:
    """The costs of a scenario at any batch, where it is `auto` on a profile; None where the table lists its batches."""
    if scenario not in table.auto:
        return None
    here = program.scenarios[scenario]
    spec = program.hardware[here.hardware].spec
    assert isinstance(spec, RooflineHardware), "only a profile has costs at any batch"
    return AnyBatch(spec, program.parents[space.parent].shape, space.layers, here, space.ends)
