"""Work of a score on workers, which have the whole parent each, or together as a team, a span of layers each.

A unit's metrics are the same bytes wherever they are measured. A worker with the whole parent computes the parent's stream up
to the unit's layer by itself, on one thread; units come by ascending layer, so that it climbs the parent once. In a team, a
unit starts at the worker with its layer and passes the others up to the last, which measures it; only hidden states travel, and
every weight is in some worker's memory. Units follow each other like batches in a pipeline, and all workers have about equal
work.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import Step, Task, TeamSpec, as_sent
from puzzledsl.costs.flops import fixed_size
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import paged_parent, placement
from puzzledsl.pieces.train.stage import EVERYTHING
from puzzledsl.plan.spans import spans
from puzzledsl.scoring.fit import Sums, counted, sums_of
from puzzledsl.scoring.inputs import Facts, ScoreInputs, Subject
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.replacements import PARENT, Replacement, Run
from puzzledsl.scoring.sweep.climb import Climb
from puzzledsl.scoring.sweep.sweep import Measured, Sweep, Unit, enters, joined
from puzzledsl.scoring.table import INCUMBENT, MemoryCache


class SubjectOnWorker:
    """A subject on a worker, with the threads that measure it."""

    def __init__(self, wanted: ParentInSpans, subject: Subject) -> None:
        """Start the threads, which live as long as the process: it does nothing else."""
        self._wanted, self._subject = wanted, subject
        self._workers = Workers(subject.runner.device)
        self._workers.__enter__()

    @cached_property
    def _facts(self) -> Facts:
        return self._subject.facts()

    @cached_property
    def _sweep(self) -> Sweep:
        return self._subject.sweep(self._facts, self._wanted.runs, MemoryCache(), self._facts.kls, Silent())

    @cached_property
    def _units(self) -> list[Unit]:
        return self._sweep.units(self._wanted.todo, self._wanted.runs)

    def facts(self) -> tuple[Facts, list[Unit]]:
        """Return the facts of the score and its units."""
        return self._facts, self._units


class Measurer(SubjectOnWorker):
    """The object of a worker with the whole parent: measures the units and children that it is asked for."""

    def __init__(self, wanted: ParentInSpans) -> None:
        """Load the parent. Raises DiagnosticError: those of `Subject`."""
        super().__init__(wanted, Subject(wanted.inputs))
        self._packed = ExitStack()
        self._is_open, self._is_packed = False, False

    @torch.inference_mode()
    def observe(self) -> tuple[Sequence[Sums], Figures | None]:
        """Run the parent. Return its block influence, and the metrics of the child that replacements are made in, if any."""
        self._open(observed=True)
        return self._sweep.influence, self._sweep.cache.figures.get(INCUMBENT)

    @torch.inference_mode()
    def start(self, number: int) -> list[Measured]:
        """Measure one unit."""
        self._open(packed=True)
        return self._sweep.measured(self._units[number])

    @torch.inference_mode()
    def whole(self, replacements: Sequence[Replacement]) -> Figures:
        """Measure the child with several replacements."""
        self._open()
        return self._subject.with_replaced(replacements)

    @torch.inference_mode()
    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Measure the parent with one end in a storage type."""
        self._open()
        return self._subject.with_end(site, dtype)

    def _open(self, *, observed: bool = False, packed: bool = False) -> None:
        """Run the parent, if that is not done. `packed`: leave the layers packed, otherwise as they were loaded."""
        if not self._is_open:
            given = (self._wanted.inputs.around, self._wanted.runs, self._workers)
            self._sweep.open(*given, observed=observed)
            self._is_open = True
        if packed and not self._is_packed:
            self._packed.enter_context(self._subject.runner.packed())
        if self._is_packed and not packed:
            self._packed.close()
        self._is_packed = packed


def sent(inputs: ScoreInputs) -> ScoreInputs:
    """Return the inputs as a worker gets them."""
    return as_sent(inputs, library=type(inputs.library)(inputs.library.root.resolve()))


Stream = list[Tensor]
"""Hidden states of all groups, [B, S, H] each."""
Flight = Stream | dict[int, Stream]
"""A unit on its way; for runs, until all of them have begun, the streams of those that have, by their place in the unit."""


def balanced(
    shape: Shape, todo: Sequence[Replacement], runs: Sequence[Run], count: int
) -> tuple[tuple[int, int], ...]:
    """Return (first, end) of the spans of `count` workers with the least busiest one; the last also computes the head."""
    weights = [
        sum(alternative.params(own) for alternative in (ParentAttention(), ParentFfn())) for own in shape.each
    ]
    passing = [
        1 + sum(each.layer <= layer_idx for each in todo) + sum(run.end <= layer_idx for run in runs)
        for layer_idx in range(shape.layers)
    ]
    work = [float(own * times) for own, times in zip(weights, passing, strict=True)]
    work[-1] += float(fixed_size(shape).active * (1 + len(todo) + len(runs)))
    return spans(work, count)


@dataclass(frozen=True)
class ParentInSpans:
    """Tasks for teams that have the parent together, the whole of it where a team is one worker; and the maker of members."""

    inputs: ScoreInputs
    todo: Sequence[Replacement]
    runs: Sequence[Run]
    layers: Sequence[tuple[int, int]]

    def spec(self) -> TeamSpec:
        """Return the teams, whose members have one thread each. Every new one of several first runs the parent and the child."""
        child = () if self.inputs.around is None else (self._chain("become", "become"),)
        opening = () if len(self.layers) == 1 else (self._chain("enter", "enter"), *child)
        return TeamSpec(self, size=len(self.layers), opening=opening, threads=1)

    def __call__(self, member: int) -> Measurer | SpanMeasurer:
        """Return a member's object."""
        return Measurer(self) if len(self.layers) == 1 else SpanMeasurer(self, *self.layers[member])

    def facts(self) -> Task:
        """Return the task whose result are the facts of the score and its units."""
        return Task.call("facts", "facts")

    def parent(self) -> Task:
        """Return the task whose result are the parent's block influence and the metrics of the child around."""
        return self._chain("parent", "observe")

    def unit(self, number: int, unit: Unit) -> Task:
        """Return the task that measures a unit."""
        lowest = min(scored.layer for _, scored in unit)
        start = next(m for m, (first, end) in enumerate(self.layers) if first <= lowest < end)
        return self._chain(number, "start", "through", number, first=start)

    def whole(self, number: int, replacements: Sequence[Replacement]) -> Task:
        """Return the task that measures a child."""
        return self._chain(number, "whole", "whole_through", replacements)

    def end(self, site: EndName, dtype: PrecisionName) -> Task:
        """Return the task that measures an end in a storage type."""
        return self._chain("end", "end", "end_through", site, dtype)

    def _chain(self, name: object, begin: str, then: str = "", *arguments: object, first: int = 0) -> Task:
        """Return a task that begins at a member and goes on at all members above it."""
        rest = [Step(then or begin, arguments, member) for member in range(first + 1, len(self.layers))]
        return Task(name, (Step(begin, arguments, first), *rest))


class SpanMeasurer(SubjectOnWorker):
    """A member's object: layers `first` to `end - 1` of the parent, read when they first run."""

    def __init__(self, part: ParentInSpans, first: int, end: int) -> None:
        """Open the parent. Raises DiagnosticError: those of `Subject`."""
        self._first, self._end = first, end
        self._is_last = end == part.layers[-1][1]
        device, dtype = placement(part.inputs.parent_dir)
        model, _ = paged_parent(
            part.inputs.parent_dir, room_bytes=EVERYTHING, keep_head=self._is_last, dtype=dtype, device=device
        )
        super().__init__(part, Subject(part.inputs, model))
        self._runner, self._measure = self._subject.runner, self._subject.measure
        self._incumbent = self._subject.incumbent
        self._child: Figures | None = None

    @torch.inference_mode()
    def enter(self, entering: Stream | None = None) -> Stream | None:
        """Pass the parent's stream on from the last member's span, through this one; the last member measures by it."""
        leaving = self._climbing(entering)
        if not self._is_last:
            return leaving
        normed = [self._runner.final_norm(hidden) for hidden in leaving]
        self._measure.set_parent(normed)
        return None

    @torch.inference_mode()
    def become(self, entering: Stream | None = None) -> Stream | None:
        """Become the child around, within the span, and pass its stream on; the last member measures it."""
        self._become_child()
        passed = self._measured(self._climbing(entering))
        if isinstance(passed, list):
            return passed
        self._child = passed
        return None

    @torch.inference_mode()
    def observe(
        self, below: tuple[Stream, list[Stream]] | None = None
    ) -> tuple[Stream | list[Sums], list[Stream] | Figures | None]:
        """Pass on the parent's stream and its counted part of every layer; the last member returns what they tell."""
        if self._wanted.inputs.around is not None:
            self._incumbent.become(_with_layers(self._wanted.inputs.around, range(0)))
        groups = [*self._measure.groups, *self._sweep.behind]
        is_text = [
            *self._measure.is_text,
            *(torch.ones_like(each, dtype=torch.bool) for each in self._sweep.behind),
        ]
        index = counted(is_text)
        if below is None:
            hidden = self._embedded(groups)
            streams = [[h.flatten(0, 1)[at.to(h.device)]] for h, at in zip(hidden, index, strict=True)]
        else:
            hidden, streams = self._here(below[0]), below[1]
        for layer_idx in range(self._first, self._end):
            hidden = [self._runner.run_layer(layer_idx, group) for group in hidden]
            for kept, group, at in zip(streams, hidden, index, strict=True):
                kept.append(group.flatten(0, 1)[at.to(group.device)])
        if self._wanted.inputs.around is not None:
            self._become_child()
        if not self._is_last:
            return hidden, streams
        return [sums_of(self._here(group)) for group in streams], self._child

    @torch.inference_mode()
    def start(self, number: int) -> Flight | list[Measured]:
        """Start a unit in this span. Return its streams above the span; of the last member its metrics."""
        unit = self._units[number]
        if isinstance(unit[0][1], Run):
            return self.through({}, number)
        together, _ = self._sweep.started(unit)
        return self._passed(together, number)

    @torch.inference_mode()
    def through(self, flight: Flight, number: int) -> Flight | list[Measured]:
        """Bring a unit through this span, in which some of its runs may begin."""
        unit = self._units[number]
        if isinstance(flight, dict):
            begun = {
                place: list(self._sweep.climb.entering(run.layer))
                for place, (_, run) in enumerate(unit)
                if self._first <= run.layer < self._end
            }
            flight = flight | begun
            if enters(unit) > self._end or (enters(unit) == self._end and not self._is_last):
                return flight
            flight = joined([self._here(flight[place]) for place in range(len(unit))])
        return self._passed(self._here(flight), number)

    def _passed(self, together: Stream, number: int) -> Stream | list[Measured]:
        unit = self._units[number]
        for layer_idx in range(max(self._first, enters(unit)), self._end):
            together = [self._runner.run_layer(layer_idx, hidden) for hidden in together]
        return self._sweep.arrived(unit, together) if self._is_last else together

    @torch.inference_mode()
    def whole(self, replacements: Sequence[Replacement]) -> Stream | Figures:
        """Start a child with several replacements at the first layer."""
        return self.whole_through(self._embedded(self._measure.groups), replacements)

    @torch.inference_mode()
    def whole_through(self, entering: Stream, replacements: Sequence[Replacement]) -> Stream | Figures:
        """Pass on a child's stream; the last member returns its metrics."""
        with ExitStack() as stack:
            for replacement in replacements:
                if self._first <= replacement.layer < self._end:
                    stack.enter_context(replacement.applied(self._incumbent))
            return self._measured(self._span(self._here(entering)))

    @torch.inference_mode()
    def end(self, site: EndName, dtype: PrecisionName) -> Stream | Figures:
        """Start the parent with one end in a storage type at the first layer."""
        with self._subject.rounded_embedding(dtype if site == "embedding" else None):
            entering = self._embedded(self._measure.groups)
        return self.end_through(entering, site, dtype)

    @torch.inference_mode()
    def end_through(self, entering: Stream, site: EndName, dtype: PrecisionName) -> Stream | Figures:
        """Pass its stream on; the last member returns its metrics."""
        head_VH = self._subject.rounded_head(dtype) if site == "head" and self._is_last else None
        return self._measured(self._span(self._here(entering)), head_VH)

    def _measured(self, leaving: Stream, head_VH: Tensor | None = None) -> Stream | Figures:
        """Return the stream that leaves the span; of the last member the metrics."""
        if not self._is_last:
            return leaving
        return self._measure.figures([self._runner.final_norm(hidden) for hidden in leaving], head_VH)

    def _climbing(self, entering: Stream | None) -> Stream:
        """Start climbing from the stream that enters the span. Return the one that leaves it."""
        bottom = self._embedded(self._measure.groups) if entering is None else self._here(entering)
        longest = max((run.length for run in self._wanted.runs), default=0)
        self._sweep.climb = Climb(self._runner, bottom, first=self._first, longest=longest)
        return self._span(bottom)

    def _span(self, stream: Stream) -> Stream:
        for layer_idx in range(self._first, self._end):
            stream = [self._runner.run_layer(layer_idx, hidden) for hidden in stream]
        return stream

    def _embedded(self, groups: Sequence[Tensor]) -> Stream:
        return [self._runner.embed(tokens.to(self._runner.device)) for tokens in groups]

    def _here(self, stream: Sequence[Tensor]) -> Stream:
        return [hidden.to(self._runner.device) for hidden in stream]

    def _become_child(self) -> None:
        assert self._wanted.inputs.around is not None
        self._incumbent.become(_with_layers(self._wanted.inputs.around, range(self._first, self._end)))


def _with_layers(child: ModelDefinition, kept: range) -> ModelDefinition:
    """Return the child with the parent's layers outside a span, whose pieces are not loaded."""
    layers: list[LayerDefinition] = [
        layer if layer_idx in kept else PARENT for layer_idx, layer in enumerate(child.layers)
    ]
    return child.model_copy(update={"layers": tuple(layers)})
