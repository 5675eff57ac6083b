"""Inputs of a score, and its subject in this process: the parent, the pieces that replace its blocks, and the measure.

Shapes: N blocks, S tokens of a block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.healing.run import healing_text
from puzzledsl.child.healing.walk import HealingGroups
from puzzledsl.data.blocks import rows_behind
from puzzledsl.data.counts import Budget
from puzzledsl.data.errors import AnswersNotFound
from puzzledsl.data.streams import TokenRows
from puzzledsl.data.tasks import encode_item, read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.models.errors import NoHealingText, NoScoringText
from puzzledsl.models.families.load import check_tokens
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers, room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.models.precision.gptq import rounded_end
from puzzledsl.pieces.store.library import StageInputs
from puzzledsl.scoring.measures import Accuracy, Divergence, Figures, Measure
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.sweep import HealedSweep, Sweep, Unit, leaving, points_at_a_time


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
    units: Sequence[Unit]
    """Replacements and runs that are measured together, in the order of measuring."""
    paged: bool
    """True if the parent is read layer by layer."""
    at_once: int
    """Units that are measured at once."""


class Subject:
    """The loaded parent and everything that is done to it: what a worker holds. Scores are compared with the parent's own states.

    Metrics are the same bytes wherever they are measured: every forward runs on one thread.
    """

    def __init__(
        self,
        inputs: ScoreInputs,
        todo: Sequence[Replacement] = (),
        runs: Sequence[Run] = (),
        member: int = 0,
    ) -> None:
        """Load the parent. Raises DiagnosticError."""
        processes = (os.cpu_count() or 1) if inputs.is_sent else 1
        self.model = reachable_parent(inputs.parent_dir, inputs.progress, once=False, processes=processes)
        self.inputs, self._todo, self._runs = inputs, todo, runs
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
            units=self._sweep.units(self._todo, self._runs),
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
        """Run the parent."""
        with self._threads() as workers:
            self._open(workers)

    @torch.inference_mode()
    def measuring(self, numbers: Sequence[int]) -> Iterator[tuple[int, list[Figures]]]:
        """Yield the number of each of these units with what is measured of it."""
        found = self._sweep.units(self._todo, self._runs)
        with self._threads() as workers:
            self._open(workers, packed=True)
            measured = self._sweep.measuring([found[number] for number in numbers], workers)
            places = {id(found[number]): number for number in numbers}
            yield from ((places[id(unit)], each) for unit, each in measured)

    @torch.inference_mode()
    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Return the metrics of the parent with its embedding or its head rounded to a storage type."""
        with self._threads() as workers:
            self._open(workers)
            if site == "head":
                return self.measure.figures(self._final_states(), self._rounded_head(dtype))
            embedding = self.model.get_input_embeddings()  # a tied head stays as it is
            hook = embedding.register_forward_hook(partial(_rounded_rows, dtype))
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
        """Run the parent, if that is not done. `packed`: leave the layers packed, otherwise as they were loaded."""
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
    """Return what an embedding gives for tokens if it is stored in a type, whose groups of numbers lie within a row."""
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
        """Return the inputs of the same score with other settings."""
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
    """Return blocks [N, S] of the healing text: `healed` tokens, at least two blocks. Raises DiagnosticError without them."""
    bld, score = inputs.bld, inputs.declaration
    wanted = bld.model_copy(update={"heal_tokens": max(healed, 2 * bld.context)})
    given = (inputs.base, inputs.tokenizer, inputs.build.tokens, inputs.progress)
    text = healing_text(inputs.program, wanted, *given)
    if text is None or len(text[0]) < 2:
        raise DiagnosticError(NoHealingText(span_of(score.where), score=score.name, bld=bld.name))
    check_tokens(inputs.parent_dir, text[0])
    return text[0]
