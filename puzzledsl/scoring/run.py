"""`pzl score`: replace one block of the parent at a time and measure the loss (Puzzle, section 4.2).

Hidden states move up the parent's layers once. Each replacement runs only the layers from its own to the last. All metrics of a
measure are computed at once and cached, so a score with another metric of the same replacements needs no run. An interrupted
and resumed run gives the same bytes.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor

from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.healing.walk import HealingGroups, healing_text
from puzzledsl.cluster.tasks import Task, Teams, TeamSpec
from puzzledsl.costs.flops import met_weights
from puzzledsl.data.counts import Budget
from puzzledsl.data.errors import AnswersNotFound
from puzzledsl.data.streams import TokenRows, rows_behind
from puzzledsl.data.tasks import encode_item, read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.models.errors import NoHealingText, NoScoringText
from puzzledsl.models.families.load import check_tokens
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers, room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.models.precision.gptq import rounded_end
from puzzledsl.pieces.store.library import StageInputs, origin
from puzzledsl.scoring.measures import Accuracy, Divergence, Figures, Measure
from puzzledsl.scoring.replacements import (
    End,
    FiguresCache,
    Replacement,
    Run,
    ScoringWork,
    ends_to_score,
    replacements,
    runs_to_score,
    score_table,
)
from puzzledsl.scoring.sweep import METHOD, HealedSweep, Sweep, leaving, points_at_a_time


@dataclass(frozen=True)
class Facts:
    """Everything besides metrics that a table depends on and that is known where the parent is loaded."""

    tokens: Tensor
    """All scored tokens, flat."""
    healing_NS: Tensor | None
    identity: str
    """See `Divergence.identity`."""
    samples: int
    layers: int
    units: Sequence[Sequence[Replacement | Run | End]]
    """Replacements and runs that are measured together, in the order of measuring, and then each end alone."""
    paged: bool
    """True if the parent is read layer by layer."""
    at_once: int
    """Units that are measured at once."""


class Subject:
    """Object that a worker holds: the loaded parent, with methods to run it and to measure replacements against its own states.

    Metrics are the same bytes wherever they are measured: every forward runs on one thread.
    """

    def __init__(
        self,
        inputs: ScoreInputs,
        todo: Sequence[Replacement],
        runs: Sequence[Run],
        ends: Sequence[End],
        member: int,
    ) -> None:
        """Load the parent, in which `todo`, `runs` and `ends` are to be measured (`member` is unused). Raises DiagnosticError."""
        processes = (os.cpu_count() or 1) if inputs.is_sent else 1
        self.model = reachable_parent(inputs.parent_dir, inputs.progress, once=False, processes=processes)
        self.inputs, self._todo, self._runs, self._ends = inputs, todo, runs, ends
        self.runner = LayerRunner(self.model)
        self.measure = measure_of(inputs, self.runner)
        self._packed = ExitStack()
        self._is_open, self._is_packed = False, False

    @torch.inference_mode()
    def facts(self) -> Facts:
        """Return the facts of the score."""
        return Facts(
            tokens=torch.cat([group.flatten() for group in self.measure.groups]),
            healing_NS=self._healing_NS,
            identity=self.measure.identity(),
            samples=self.measure.samples(),
            layers=len(self.runner),
            units=[*self._sweep.units(self._todo, self._runs), *((end,) for end in self._ends)],
            paged=self.runner.paged,
            at_once=self._threads().count,
        )

    @cached_property
    def _healing_NS(self) -> Tensor | None:
        healed = self.inputs.method.healed
        return healing_blocks(self.inputs, healed) if healed else None

    @cached_property
    def _sweep(self) -> Sweep:
        inputs, work = self.inputs, self.inputs.work
        given = self.runner, self.measure, self.model, inputs.library
        if self._healing_NS is None:
            return Sweep(*given)
        held_bytes = room_bytes() // points_at_a_time(self._runs)
        to_heal = (self.model, inputs.library.load, self._healing_NS, self.measure.groups, work)
        return HealedSweep(partial(HealingGroups.of, *to_heal, held_bytes=held_bytes), *given)

    @torch.inference_mode()
    def parent(self) -> None:
        """Run the parent on the scored tokens, if that is not done; its states are what metrics compare with."""
        with self._threads() as workers:
            self._open(workers)

    @torch.inference_mode()
    def measuring(self, numbers: Sequence[int]) -> Iterator[tuple[int, list[Figures]]]:
        """Yield (number, metrics of each member) of the units of `facts` that have these numbers."""
        found = self._sweep.units(self._todo, self._runs)
        places = {id(found[number]): number for number in numbers if number < len(found)}
        with self._threads() as workers:
            if places:
                self._open(workers, packed=True)
                measured = self._sweep.measuring([found[number] for number in places.values()], workers)
                yield from ((places[id(unit)], each) for unit, each in measured)
            for number in numbers:
                if number >= len(found):
                    self._open(workers)
                    yield number, [self._end(self._ends[number - len(found)])]

    def _end(self, end: End) -> Figures:
        """Return the metrics of the parent with its embedding or its head rounded to a storage type."""
        if end.site == "head":
            return self.measure.figures(self._final_states(), self._rounded_head(end.dtype))
        embedding = self.model.get_input_embeddings()  # a tied head stays as it is
        hook = embedding.register_forward_hook(partial(_rounded_rows, end.dtype))
        try:
            return self.measure.figures(self._final_states())
        finally:
            hook.remove()

    def _final_states(self) -> list[Tensor]:
        """Return the final hidden states after the last norm, one [B, S, H] for each group."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        return leaving(self.runner, entering)

    def _threads(self) -> Workers:
        return Workers(self.runner.device, shared=not self.runner.paged)

    def _open(self, workers: Workers, *, packed: bool = False) -> None:
        """Run the parent, if that is not done. `packed`: pack its layers' weights for fast runs, else unpack them."""
        if not self._is_open:
            self._sweep.open(self._runs, workers)
            self._is_open = True
        if packed and not self._is_packed:
            self._packed.enter_context(self.runner.packed())
        if self._is_packed and not packed:
            self._packed.close()
        self._is_packed = packed

    def _rounded_head(self, dtype: PrecisionName) -> Tensor:
        """Return the head's matrix [V, H] in a storage type: that of its piece where there is one."""
        for job in self.inputs.jobs:
            if job.head == dtype:
                return self.inputs.library.load(job.id)["weight"].to(self.runner.device)
        return rounded_end(self.runner.head_weights()[0], dtype)


def _rounded_rows(dtype: PrecisionName, embedding: Any, tokens: tuple[Tensor], found: Tensor) -> Tensor:
    """Forward hook: return an embedding's output with rows rounded to a storage type, whose groups lie within a row."""
    rows = rounded_end(embedding.weight[tokens[0].flatten()], dtype).to(found.dtype).view_as(found)
    return rows * embedding.embed_scale.to(found.dtype) if hasattr(embedding, "embed_scale") else rows


def measure_of(inputs: ScoreInputs, runner: LayerRunner) -> Measure:
    """Return the measure of a score on its items or its text. Raises DiagnosticError."""
    method, span = inputs.method, span_of(inputs.declaration.where)
    if method.metric == "accuracy":
        items = read_tasks(inputs.base / (method.tasks or ""), method.samples, span=span)
        return Accuracy(runner, items, [encode_item(inputs.tokenizer, item) for item in items])
    if inputs.data is None:
        raise DiagnosticError(NoScoringText(span, score=inputs.name))
    tokens_NS, learned_NS = scored(inputs)
    return Divergence(runner, tokens_NS, method.samples, learned_NS=learned_NS)


@dataclass(frozen=True)
class ScoreInputs(StageInputs):
    """Inputs of one measured score, with the jobs of its BLD."""

    is_sent: bool = False
    """True on a worker, beside which others of its machine load the parent, too."""

    @property
    def declaration(self) -> nodes.Score:
        """The `score` declaration."""
        return self.program.scores[self.name]

    @property
    def method(self) -> nodes.ReplaceOne:
        """The settings of `replace_one`. Raises ValueError for a score that is read from a table."""
        if not isinstance(self.declaration.method, nodes.ReplaceOne):
            raise ValueError(f"score {self.name} is not measured, it is read from a table")
        return self.declaration.method

    @property
    def bld(self) -> nodes.Bld:
        """The BLD that made the pieces."""
        assert self.declaration.bld is not None
        return self.program.blds[self.declaration.bld]

    @property
    def data(self) -> str | None:
        """The data set that is scored on."""
        return self.method.data or self.bld.data

    def with_method(self, **changes: object) -> ScoreInputs:
        """Return the inputs of the same score with `changes` to its settings."""
        method = self.method.model_copy(update=changes)
        score = self.declaration.model_copy(update={"method": method})
        scores = {**self.program.scores, self.name: score}
        return replace(self, program=self.program.model_copy(update={"scores": scores}))


def scored(inputs: ScoreInputs) -> tuple[Tensor, Tensor | None]:
    """Return the blocks for `samples` positions, [N, S], and which of their positions count, bool [N, S]; None if all do.

    They come after the blocks that the pieces were trained on; with a warning, they are the first ones if the text is too
    short. Raises DiagnosticError (NotEnoughText, AnswersNotFound and those of reading text).
    """
    samples, bld, data = inputs.method.samples, inputs.bld, inputs.data or ""
    count = -(-samples // bld.context)
    trained = Budget.of(bld).blocks if data == bld.data else 0

    def read(first: int) -> TokenRows:
        return inputs.text(data, bld.context, first + count, bld.seed).part(first)

    warning = f"data `{data}` is too short to score on text that was not trained on"
    rows = rows_behind(trained, read, inputs.progress, warning)
    tokens_NS, learned_NS = rows[:], rows.learned(slice(None))
    check_tokens(inputs.parent_dir, tokens_NS)
    if learned_NS is not None and not learned_NS.flatten()[:samples].any():
        reason = f"none is among the {samples} positions that score `{inputs.name}` reads"
        span = span_of(inputs.declaration.where)
        raise DiagnosticError(AnswersNotFound(span, name=inputs.data, reason=reason))
    last = None if count > 1 else samples  # of a single block, only what is scored
    return tokens_NS[:, :last], None if learned_NS is None else learned_NS[:, :last]


def healing_blocks(inputs: ScoreInputs, healed: int) -> Tensor:
    """Return blocks [N, S] of the healing text: `healed` tokens or fewer. Raises DiagnosticError for less than two blocks."""
    bld, score = inputs.bld, inputs.declaration
    wanted = bld.model_copy(update={"heal_tokens": max(healed, 2 * bld.context)})
    given = (inputs.base, inputs.tokenizer, inputs.build.tokens, inputs.progress)
    text = healing_text(inputs.program, wanted, *given)
    if text is None or len(text[0]) < 2:
        raise DiagnosticError(NoHealingText(span_of(score.where), score=score.name, bld=bld.name))
    check_tokens(inputs.parent_dir, text[0])
    return text[0]


PAGED_PARTS = 32
"""Tasks that the replacements of a paged parent are divided into on a cluster. Each of them reads the layers once."""


class Scorer:
    """Measures one score's replacements on the workers of an executor, in this process or elsewhere, with the same results."""

    def __init__(self, teams: Teams, inputs: ScoreInputs) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of a cluster."""
        self._teams, self._inputs = teams, inputs
        ((_, found),) = teams.run([Task.call("facts", "facts")])
        self.facts: Facts = found

    def measure(self, known: FiguresCache, effort: ScoringWork) -> None:
        """Measure everything that is not in `known`, and store it there. `effort` gives the work that progress reports."""
        inputs, units = self._inputs, self.facts.units
        wanted = [n for n, unit in enumerate(units) if any(each.entry not in known.figures for each in unit)]
        inputs.progress.advance(sum(map(len, units)) - sum(len(units[n]) for n in wanted), kept=True)
        parts = (Task.call("units", "measuring", part) for part in self._parts(wanted))
        for task, result in self._teams.run([Task.call("parent", "parent"), *parts]):
            if task.name == "parent":
                self._ready(wanted, effort)
            else:
                for number, found in result:
                    self._keep(number, found, known, effort)

    def _ready(self, wanted: Sequence[int], effort: ScoringWork) -> None:
        """Report the work of the `wanted` units, from which the time left is estimated; in this process several run at once."""
        facts, scored = self.facts, [scored for n in wanted for scored in self.facts.units[n]]
        work = sum(map(effort.above, scored))
        if not self._inputs.executor.is_local:
            self._inputs.progress.ready(work)
            return
        together = sum(not isinstance(each, End) for each in scored)
        at_once = together if facts.paged and facts.healing_NS is None else facts.at_once
        self._inputs.progress.ready(work, at_once, cold=at_once)

    def _parts(self, wanted: Sequence[int]) -> list[Sequence[int]]:
        """Split the `wanted` units into tasks: one task in this process; on a cluster one a unit, or PAGED_PARTS if paged."""
        if self._inputs.executor.is_local:
            return [wanted] if wanted else []
        size = -(-len(wanted) // PAGED_PARTS) if self.facts.paged else 1
        return [wanted[start : start + size] for start in range(0, len(wanted), max(1, size))]

    def _keep(self, number: int, found: Sequence[Figures], known: FiguresCache, effort: ScoringWork) -> None:
        """Store a unit's results in `known` and report them. The first member carries all the work, as they end together."""
        advance, unit = self._inputs.progress.advance, self.facts.units[number]
        work = sum(map(effort.above, unit))
        for scored, figures in zip(unit, found, strict=True):
            if scored.entry in known.figures:  # measured before, unlike others of the unit
                advance(work=work)
            else:
                known.add(scored.entry, figures)
                named = f"{scored.length} dropped" if isinstance(scored, Run) else scored.entry[-1]
                where = {"site": scored.site} if isinstance(scored, End) else {"layer": scored.layer}
                advance(work=work, **where, alternative=named, score=figures[self._inputs.method.metric])
            work = 0.0


FORMER_SETTINGS = {
    '"unit":': '"top_k":null,"unit":',
    '"runs":': '"children":0,"runs":',
    '"data":': '"around":null,"rounds":1,"data":',
}


def run_score(inputs: ScoreInputs) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    The parent's own sub-blocks score 0 and are not in the table. `samples` counts scored token positions (or items). The text
    comes after the blocks that the BLD was trained on, if there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text.
    """
    score, declaration, method, bld = inputs.name, inputs.declaration, inputs.method, inputs.bld
    progress = inputs.progress
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    space = inputs.program.spaces[declaration.space]
    todo = replacements(declaration, space, unit, inputs.jobs)
    shape = inputs.program.parents[space.parent].shape
    runs = runs_to_score(declaration, space, shape)
    ends = ends_to_score(space)

    spec = TeamSpec(partial(Subject, inputs.sent(is_sent=True), todo, runs, ends), threads=1)
    with inputs.executor.open(spec, progress) as teams:
        scorer = Scorer(teams, inputs)
        facts = scorer.facts
        digests = _digests(inputs, facts, todo, ends)
        key = json.dumps([digests["figures"], facts.identity])
        known = FiguresCache(inputs.build, "", key)
        progress.start(f"score {score}", len(todo) + len(runs) + len(ends))
        healed = 0.0 if facts.healing_NS is None else facts.healing_NS.numel() / len(facts.tokens)
        scorer.measure(known, ScoringWork(*met_weights(shape), healed))
        table = score_table(score, method.metric, unit, facts.samples, facts.layers, known.figures, runs)
    of_ends: dict[str, dict[str, float]] = {end.site: {} for end in ends}
    for end in ends:
        of_ends[end.site][end.entry[-1]] = known.figures[end.entry][method.metric]
    return table.model_copy(update={"inputs": digests, **of_ends})


def _digests(
    inputs: ScoreInputs, facts: Facts, todo: Sequence[Replacement], ends: Sequence[End]
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    method, parent_dir = inputs.method, inputs.parent_dir
    pieces = inputs.library.checksums()
    parts: list[list[object]] = []
    for r in todo:
        made = (pieces.get(p.piece or "", "") if p.alternative.trainable else "" for p in r.parts)
        parts.append([r.layer, r.table, r.name, *made])
    settings = method.model_dump_json(exclude=None if method.healed else {"healed"})
    # with settings of earlier versions, so that tables stay the same bytes
    for setting, written in FORMER_SETTINGS.items():
        settings = settings.replace(setting, written)
    described = f"{settings} {parts} None"
    made_from = origin(parent_dir, facts.tokens)
    figures = f"{made_from} {parts} None"
    if ends:
        heads = [pieces.get(job.id) for job in inputs.jobs if job.head is not None]
        described += f" {[(end.site, end.dtype) for end in ends]} {heads}"
        figures += f" {heads}"
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
