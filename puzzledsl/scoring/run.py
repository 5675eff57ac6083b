"""`pzl score`: replace one block of the parent at a time and measure the loss (Puzzle, section 4.2).

Hidden states move up the parent's layers once. Each replacement runs only the layers from its own to the last. All metrics of a
measure are computed at once and cached, so a score with another metric of the same replacements needs no run. An interrupted
and resumed run gives the same bytes. With `children`, half of the children that a score is fitted to are near optima of the
plain sum, and the other half near optima of the form fitted to the first half: a prediction has to hold where a search will
look.

Shapes: R replacements, P positions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Task, Teams, TeamSpec
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import ModelDefinition, ScoreTable
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import SHARE, free_bytes, placement, weights_bytes
from puzzledsl.pieces.store.library import origin
from puzzledsl.scoring.fit import Form, Places, Sums, block_influence, drawn, fitted
from puzzledsl.scoring.fit import Rows as Child
from puzzledsl.scoring.inputs import Facts, ScoreInputs, Subject
from puzzledsl.scoring.measures import Figures, PositionKls, StoredKls
from puzzledsl.scoring.replacements import (
    Replacement,
    Run,
    ScoringWork,
    ends_to_score,
    replacements,
    runs_to_score,
)
from puzzledsl.scoring.sweep.healed import METHOD
from puzzledsl.scoring.sweep.sweep import figures_name, final_states, is_known, keep, names_of
from puzzledsl.scoring.table import INCUMBENT, FiguresCache, Name, fitted_table, score_table
from puzzledsl.scoring.workers import ParentInSpans, balanced, sent

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


def tasks_for(inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> ParentInSpans:
    """Return the tasks of a score, for workers with as much of the parent as fits; healing, of several layers, has all of it."""
    there = sent(inputs)
    needed, shape = 1, shape_of(load_config(inputs.parent_dir))
    if not inputs.method.healed and weights_bytes(inputs.parent_dir, torch.float32) > SMALL_BYTES:
        with inputs.executor.open(TeamSpec(Asked(there)), inputs.progress) as teams:
            ((_, needed),) = teams.run([Task.call("room", "spans_needed")])
    if needed == 1:
        return ParentInSpans(there, todo, runs, ((0, shape.layers),))
    layers = balanced(shape, todo, runs, needed)
    text = f"the parent does not fit into a worker: teams of {len(layers)} workers have {layers[0][1]} layers and fewer each"
    inputs.progress.log("spans", text=text, layers=layers)
    return ParentInSpans(there, todo, runs, layers)


class OnWorkers:
    """A `scoring.scorer.Scorer` on the workers of a cluster."""

    def __init__(self, teams: Teams, inputs: ScoreInputs, tasks: ParentInSpans) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of the cluster."""
        self._teams, self._inputs, self._tasks = teams, inputs, tasks
        ((_, (self.facts, self._units)),) = teams.run([tasks.facts()])
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: PositionKls, effort: ScoringWork) -> None:
        """See `Scorer`."""
        inputs, around = self._inputs, self._inputs.around
        wanted = [n for n, unit in enumerate(self._units) if not is_known(unit, known)]
        made = sum(map(len, self._units)) - sum(len(self._units[n]) for n in wanted)
        inputs.progress.advance(made, kept=True)
        todo = sum(effort.above(scored) for n in wanted for _, scored in self._units[n])
        inputs.progress.ready(effort.behind + todo)
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
                keep(unit, fresh, rows, known, inputs.progress, inputs.method.metric, effort)
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
    def __init__(self, inputs: ScoreInputs, unseen: bool, member: int = 0) -> None:
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


def judge_maker(inputs: ScoreInputs, *, unseen: bool) -> Callable[[int], Judge]:
    """Return the maker of a worker's judge, for this process or for others."""
    return partial(Judge, inputs if inputs.executor.is_local else sent(inputs), unseen)


class Scorer(Protocol):
    """Measurer of one score's replacements, here or on the workers of a cluster, with the same results."""

    facts: Facts
    influence: Sequence[Sums]
    """Block influence of the parent, by group of tokens; known after `measure`."""

    def measure(self, known: FiguresCache, rows: PositionKls, effort: ScoringWork) -> None:
        """Measure everything that is not in `known`, and store it there and in `rows`."""

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """Yield the number and the metrics of each child, given by its replacements, as it is measured. After `measure`."""

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Return the metrics of the parent with its embedding or its head in a storage type. After `measure`."""


class Here:
    """A `Scorer` in this process."""

    def __init__(self, inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> None:
        """Load the parent. Raises DiagnosticError: those of `Subject`."""
        self._subject, self._todo, self._runs = Subject(inputs), todo, runs
        self.facts = self._subject.facts()
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: PositionKls, effort: ScoringWork) -> None:
        """See `Scorer`."""
        inputs = self._subject.inputs
        sweep = self._subject.sweep(self.facts, self._runs, known, rows, inputs.progress)
        sweep.run(self._todo, inputs.around, self._runs, effort)
        self.influence = sweep.influence

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """See `Scorer`."""
        with Workers(self._subject.runner.device):
            return self._subject.with_end(site, dtype)

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """See `Scorer`."""
        with Workers(self._subject.runner.device):  # so that no product is split among threads
            for number, replacements in enumerate(children):
                yield number, self._subject.with_replaced(replacements)


WHOLE = -2
"""Layer number under which losses of whole children are cached."""


@dataclass(frozen=True, eq=False)
class Children:
    """Draws whole children, measures them, and fits the form of a score to them."""

    todo: Sequence[Replacement]
    shape: Shape
    scorer: Scorer
    cache: FiguresCache
    progress: Progress

    def fitted(self, count: int, seed: int, kl_RP: Tensor) -> Form:
        """Return single scores fitted to `count` children, from stored KLs by position; the same bytes for any threads."""
        kls = kl_RP.numpy().astype(np.float64)
        places = Places.of(self.todo, self.shape)
        self.progress.start("children", count)
        form = Form(kls.mean(axis=1))
        measured: list[tuple[Child, float]] = []
        for wave in (count // 2, count - count // 2):
            known = [rows for rows, _ in measured]
            new = list(drawn(places, form.singles_R, wave, seed + len(measured), known))
            measured += zip(new, self._losses(new), strict=True)
            form = fitted(kls, measured)
        return form

    def _losses(self, children: Sequence[Child]) -> list[float]:
        """Return the KL divergence of each child, from the cache or measured now."""
        names = [self._name(rows) for rows in children]
        new = [n for n, name in enumerate(names) if name not in self.cache.figures]
        self.progress.advance(len(children) - len(new), kept=True)
        replaced = [[self.todo[row] for row in children[n]] for n in new]
        for number, figures in self.scorer.wholes(replaced):
            self.cache.add(names[new[number]], figures)
            self.progress.advance(score=figures["kl_divergence"])
        return [self.cache.figures[name]["kl_divergence"] for name in names]

    def _name(self, rows: Child) -> Name:
        names = [(r.layer, r.table, r.name) for r in (self.todo[row] for row in rows)]
        return WHOLE, "child", hashlib.sha256(repr(names).encode()).hexdigest()[:24]


BEHIND = -2
"""The layer of an end's cached entry: none, and not that of a child around which scores are made (-1)."""


def run_score(inputs: ScoreInputs) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    The parent's own sub-blocks score 0 and are not in the table. `samples` counts scored token positions (or items). The text
    comes after the blocks that the BLD was trained on, if there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text.
    """
    score, declaration, method, bld = inputs.score, inputs.declaration, inputs.method, inputs.bld
    work, progress, around = inputs.work, inputs.progress, inputs.around
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    layers = None if around is None else around.layers
    space = inputs.program.spaces[declaration.space]
    todo = replacements(declaration, space, unit, inputs.jobs, layers)
    shape = inputs.program.parents[space.parent].shape
    runs = runs_to_score(declaration, space, shape)
    ends = ends_to_score(space)

    with torch.inference_mode(), _scorer(inputs, todo, runs) as scorer:
        facts = scorer.facts
        digests = _digests(inputs, facts, todo, ends)
        key = json.dumps([digests["figures"], facts.identity])
        kept = inputs.build.figures(hashlib.sha256(key.encode()).hexdigest()[:24])
        # A fit needs KLs by position. Other scores do not store these, so fitted scores have a separate cache, in which every
        # entry implies that its KLs are stored.
        fits = facts.kls.kept
        known = FiguresCache(work / "figures-kls.jsonl" if fits else kept, key)
        rows = StoredKls.at(work / "kls.bin", facts.kls, len(todo), facts.samples)
        progress.start(f"score {score}", len(todo) + len(runs) + len(ends))
        healed = 0.0 if facts.healing_NS is None else facts.healing_NS.numel() / len(facts.tokens)
        unknown = sum(_end_name(*end) not in known.figures for end in ends)
        effort = ScoringWork.of(shape, healed, wholes=unknown)
        scorer.measure(known, rows, effort)
        of_ends = _scores_of_ends(scorer, known, ends, method.metric, effort, progress)
        sizes = facts.samples, facts.layers
        table = score_table(score, method.metric, unit, *sizes, known.figures, layers, runs)
        if fits:
            children = Children(todo, shape, scorer, known, progress)
            table = fitted_table(table, children.fitted(method.children, bld.seed, rows.all()), todo)
            _tell_fit(score, table, progress)
            known.copy_to(kept)
    influence = block_influence(scorer.influence, method.tasks or inputs.data or "")
    return table.model_copy(update={"inputs": digests, "influence": influence, **of_ends})


def _scores_of_ends(
    scorer: Scorer,
    known: FiguresCache,
    ends: Sequence[tuple[EndName, PrecisionName]],
    metric: str,
    effort: ScoringWork,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Return the score of each end of the parent in each storage type, by site and name."""
    found: dict[str, dict[str, float]] = {site: {} for site, _ in ends}
    for site, dtype in ends:
        name = _end_name(site, dtype)
        kept = name in known.figures
        if not kept:
            known.add(name, scorer.end(site, dtype))
        score = found[site][name[-1]] = known.figures[name][metric]
        work = 0.0 if kept else effort.whole
        progress.advance(kept=kept, work=work, site=site, alternative=name[-1], score=score)
    return found


def _end_name(site: EndName, dtype: PrecisionName) -> Name:
    """Return the name under which an end's figures are cached."""
    return BEHIND, site, f"parent@{dtype}"


@contextmanager
def _scorer(inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> Iterator[Scorer]:
    """Yield the scorer in this process, or the one on the workers of the inputs' executor."""
    if inputs.executor.is_local:
        yield Here(inputs, todo, runs)
        return
    tasks = tasks_for(inputs, todo, runs)
    with inputs.executor.open(tasks.spec(), inputs.progress) as teams:
        yield OnWorkers(teams, inputs, tasks)


def score_children(
    inputs: ScoreInputs, children: Sequence[ModelDefinition], *, unseen: bool = False
) -> list[float]:
    """Return the losses of whole children by a score's metric, on its text, on as much behind (`unseen`), or on items."""
    tasks = [Task.call(number, "loss", child) for number, child in enumerate(children)]
    with inputs.executor.open(TeamSpec(judge_maker(inputs, unseen=unseen)), inputs.progress) as teams:
        found = {task.name: loss for task, loss in teams.run(tasks)}
    return [found[number] for number in range(len(children))]


def _tell_fit(score: str, table: ScoreTable, progress: Progress) -> None:
    fit = table.fit
    if fit is not None:
        bound = "" if fit.saturation_nats is None else f", positions saturate at {fit.saturation_nats:g} nats"
        text = (
            f"score `{score}` is fitted to {fit.children} children: {fit.scale:.3g} of single KLs{bound}; "
            f"children that were left out are predicted within {fit.error_rms:.1%} (at most {fit.error_most:.1%})"
        )
        progress.log("fitted", text=text, score=score, **fit.model_dump())


def _digests(
    inputs: ScoreInputs,
    facts: Facts,
    todo: Sequence[Replacement],
    ends: Sequence[tuple[EndName, PrecisionName]],
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    method, around, parent_dir = inputs.method, inputs.around, inputs.parent_dir
    pieces = {piece.job.id: piece.sha256 for piece in inputs.library.pieces()}
    parts = [[r.layer, r.table, r.name, *(pieces.get(p or "", "") for _, _, p in r.parts)] for r in todo]
    child = None if around is None else around.digest()
    described = f"{method.model_dump_json(exclude=None if method.healed else {'healed'})} {parts} {child}"
    made_from = origin(parent_dir, facts.tokens)
    figures = f"{made_from} {parts} {child}"
    if ends:
        heads = [pieces.get(job.id) for job in inputs.jobs if job.head is not None]
        described, figures = f"{described} {ends} {heads}", f"{figures} {heads}"
    healing = {}
    if facts.healing_NS is not None:
        healing["healing_tokens"] = origin(parent_dir, facts.healing_NS)["text"]
        figures += f" healed {METHOD} {healing}"
    return {
        **made_from,
        **healing,
        "replacements": hashlib.sha256(described.encode()).hexdigest(),
        "figures": hashlib.sha256(figures.encode()).hexdigest(),
    }
