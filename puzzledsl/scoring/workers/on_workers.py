"""Scoring on the workers of a cluster. Results are stored by the process that runs the score, which loads no model.

Choice of what a worker has: the whole parent, or, if that does not fit, a span of its layers in a team with others.

Losses of whole children, here or on workers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.cluster.tasks import Task, Teams, TeamSpec
from puzzledsl.ir.tables import ModelDefinition
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.placement import SHARE, free_bytes, placement, weights_bytes
from puzzledsl.scoring.fit import Sums
from puzzledsl.scoring.inputs import ScoreInputs, Subject
from puzzledsl.scoring.measures import Figures, PositionKls
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep.sweep import figures_name, final_states, is_known, keep, names_of
from puzzledsl.scoring.table import INCUMBENT, FiguresCache
from puzzledsl.scoring.workers.spans import ParentInSpans, balanced
from puzzledsl.scoring.workers.whole import WholeParent, sent

SMALL_BYTES = 1 << 31
"""Weights, in float32, that any worker has room for."""


@dataclass(frozen=True)
class Asked:
    """A worker that is asked for its room, and the maker of it."""

    inputs: ScoreInputs

    def __call__(self, member: int) -> Asked:
        """Return the worker's object."""
        return self

    def spans_needed(self) -> int:
        """Return the number of workers like this one that can hold the parent together."""
        device, dtype = placement(self.inputs.parent_dir)
        room = SHARE * free_bytes(device)
        if device.type == "cpu":
            room /= os.cpu_count() or 1  # other workers on this machine need as much
        return max(1, math.ceil(weights_bytes(self.inputs.parent_dir, dtype) / room))


def tasks_for(
    inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]
) -> WholeParent | ParentInSpans:
    """Return the tasks of a score, for workers with as much of the parent as fits.

    Healing looks at several layers at once, so it always has the whole parent, read layer by layer if it does not fit.
    """
    there = sent(inputs)
    needed = 1 if inputs.method.healed else _spans_needed(there, inputs)
    if needed == 1:
        return WholeParent(there, todo, runs)
    layers = balanced(shape_of(load_config(inputs.parent_dir)), todo, runs, needed)
    text = f"the parent does not fit into a worker: teams of {len(layers)} workers have {layers[0][1]} layers and fewer each"
    inputs.progress.log("spans", text=text, layers=layers)
    return ParentInSpans(there, todo, runs, layers)


def _spans_needed(there: ScoreInputs, inputs: ScoreInputs) -> int:
    import torch

    if weights_bytes(inputs.parent_dir, torch.float32) <= SMALL_BYTES:
        return 1
    with inputs.executor.open(TeamSpec(Asked(there)), inputs.progress) as teams:
        ((_, needed),) = teams.run([Task.call("room", "spans_needed")])
    return int(needed)


class OnWorkers:
    """A `scoring.scorer.Scorer` on the workers of a cluster."""

    def __init__(self, teams: Teams, inputs: ScoreInputs, tasks: WholeParent | ParentInSpans) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of the cluster."""
        self._teams, self._inputs, self._tasks = teams, inputs, tasks
        ((_, (self.facts, self._units)),) = teams.run([tasks.facts()])
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: PositionKls) -> None:
        """See `Scorer`."""
        inputs, around = self._inputs, self._inputs.around
        wanted = [n for n, unit in enumerate(self._units) if not is_known(unit, known)]
        made = sum(map(len, self._units)) - sum(len(self._units[n]) for n in wanted)
        inputs.progress.advance(made, kept=True)
        tasks = [self._tasks.parent(), *(self._tasks.unit(n, self._units[n]) for n in wanted)]
        for task, result in self._teams.run(tasks):
            if task.name == "parent":
                self.influence, child = result
                if around is not None and INCUMBENT not in known.figures:
                    known.add(INCUMBENT, child)
            else:
                unit = self._units[task.name]
                fresh = [
                    None if figures_name(scored) in known.figures else each
                    for (_, scored), each in zip(unit, result, strict=True)
                ]
                keep(unit, fresh, rows, known, inputs.progress, inputs.method.metric)
        order = [*([] if around is None else [INCUMBENT]), *names_of(self._units)]
        known.restore_order(order, shuffled=len(wanted) > 0)

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """See `Scorer`."""
        ((_, figures),) = self._teams.run([self._tasks.end(site, dtype)])
        found: Figures = figures
        return found

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """See `Scorer`."""
        for task, figures in self._teams.run([self._tasks.whole(n, c) for n, c in enumerate(children)]):
            yield task.name, figures


class Judge:
    """The parent and a score's measure, by which children are compared with it one after the other."""

    @torch.inference_mode()
    def __init__(self, inputs: ScoreInputs, *, unseen: bool) -> None:
        """Load and run the parent. Raises DiagnosticError: those of `Subject`."""
        self._subject = Subject(inputs, unseen=unseen)
        self._subject.measure.set_parent(final_states(self._subject.runner, self._subject.measure))

    @torch.inference_mode()
    def loss(self, child: ModelDefinition) -> float:
        """Return a child's loss by the score's metric."""
        subject = self._subject
        subject.incumbent.become(child)
        figures = subject.measure.figures(final_states(subject.runner, subject.measure))
        return figures[subject.inputs.method.metric]


@dataclass(frozen=True)
class JudgeMaker:
    """Maker of a worker's `Judge`."""

    inputs: ScoreInputs
    unseen: bool

    @classmethod
    def of(cls, inputs: ScoreInputs, *, unseen: bool) -> JudgeMaker:
        """Return the maker, for this process or for others."""
        return cls(inputs if inputs.executor.is_local else sent(inputs), unseen)

    def __call__(self, member: int) -> Judge:
        """Return a new judge."""
        return Judge(self.inputs, unseen=self.unseen)
