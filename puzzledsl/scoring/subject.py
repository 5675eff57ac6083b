"""The subject of one score in this process: the parent, the pieces that replace its blocks, and the measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.children import HealingGroups
from puzzledsl.data.tasks import encode_item, read_tasks
from puzzledsl.ir.base import span_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.models.precision.grids import rounded_end
from puzzledsl.scoring.errors import NoScoringText
from puzzledsl.scoring.figures_cache import MemoryCache
from puzzledsl.scoring.inputs import ScoreInputs, healing_blocks, scored, text_behind
from puzzledsl.scoring.measures import Accuracy, Divergence, Figures, Measure
from puzzledsl.scoring.position_kls import PositionKls
from puzzledsl.scoring.replacements import Incumbent, Replacement, Run
from puzzledsl.scoring.sweep.healed import HealedSweep, points_at_a_time
from puzzledsl.scoring.sweep.sweep import Sweep, final_states


@dataclass(frozen=True)
class Facts:
    """Everything besides metrics that a table depends on and that is known where the parent is loaded."""

    tokens: Tensor
    """All scored tokens, flat."""
    healing_NS: Tensor | None
    identity: str
    """See `Measure.identity`."""
    samples: int
    layers: int
    kls: PositionKls


class Subject:
    """The loaded parent and everything that is done to it. Its scores are compared with the parent's own states."""

    def __init__(
        self, inputs: ScoreInputs, model: PreTrainedModel | None = None, *, unseen: bool = False
    ) -> None:
        """Load the parent, if `model` is not it. `unseen`: measure on as much text after the score's.

        Raises DiagnosticError: no text, too little of it, items that cannot be read, a parent that cannot be loaded.
        """
        model = model or reachable_parent(inputs.parent_dir, inputs.progress, once=False)
        self.inputs, self.model = inputs, model
        self.runner = LayerRunner(model)
        self.measure = measure_of(inputs, self.runner, unseen=unseen)
        self.incumbent = Incumbent(model, inputs.library)

    def facts(self) -> Facts:
        """Return the facts of the score."""
        method, samples = self.inputs.method, self.measure.samples()
        return Facts(
            tokens=torch.cat([group.flatten() for group in self.measure.groups]),
            healing_NS=healing_blocks(self.inputs, method.healed) if method.healed else None,
            identity=self.measure.identity(),
            samples=samples,
            layers=len(self.runner),
            kls=PositionKls(kept=method.children > 0),
        )

    def sweep(
        self, facts: Facts, runs: Sequence[Run], cache: MemoryCache, rows: PositionKls, progress: Progress
    ) -> Sweep:
        """Return the sweep that measures the score's replacements and runs."""
        inputs, work = self.inputs, self.inputs.work
        behind = text_behind(inputs, inputs.method.samples, self.runner.device)
        metric = inputs.method.metric
        given = (self.runner, self.measure, metric, cache, progress, self.incumbent, rows, work, behind)
        if facts.healing_NS is None:
            return Sweep(*given)
        held_bytes = room_bytes() // points_at_a_time(runs)
        to_heal = (self.model, inputs.library.load, facts.healing_NS, self.measure.groups, work)
        return HealedSweep(partial(HealingGroups, *to_heal, held_bytes=held_bytes), *given)

    def with_replaced(self, replacements: Sequence[Replacement]) -> Figures:
        """Return the metrics of the child with several replacements."""
        with ExitStack() as stack:
            for replacement in replacements:
                stack.enter_context(replacement.applied(self.incumbent))
            return self.measure.figures(final_states(self.runner, self.measure))

    def with_end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """Return the metrics of the parent with its embedding or its head rounded to a storage type."""
        head_VH = self.rounded_head(dtype) if site == "head" else None
        with self.rounded_embedding(dtype if site == "embedding" else None):
            return self.measure.figures(final_states(self.runner, self.measure), head_VH)

    def rounded_head(self, dtype: PrecisionName) -> Tensor:
        """Return the head's matrix [V, H] in a storage type: that of its piece where there is one."""
        for job in self.inputs.jobs:
            if job.head == dtype:
                return self.inputs.library.load(job.id)["weight"].to(self.runner.device)
        return rounded_end(self.runner.head_weights()[0], dtype)

    @contextmanager
    def rounded_embedding(self, dtype: PrecisionName | None) -> Iterator[None]:
        """Inside the context the model has its embedding in a storage type (None: as it is); a tied head stays as it is."""
        if dtype is None:
            yield
            return
        hook = self.model.get_input_embeddings().register_forward_hook(partial(_rounded_rows, dtype))
        try:
            yield
        finally:
            hook.remove()


def _rounded_rows(dtype: PrecisionName, embedding: Any, tokens: tuple[Tensor], found: Tensor) -> Tensor:
    """Return what an embedding gives for tokens if it is stored in a type, whose groups of numbers lie within a row."""
    rows = rounded_end(embedding.weight[tokens[0].flatten()], dtype).to(found.dtype).view_as(found)
    return rows * embedding.embed_scale.to(found.dtype) if hasattr(embedding, "embed_scale") else rows


def measure_of(inputs: ScoreInputs, runner: LayerRunner, *, unseen: bool = False) -> Measure:
    """Return the measure of a score on its items or its text; `unseen`: on as much text after it.

    Raises DiagnosticError: no text, too little of it, items that cannot be read.
    """
    method, span = inputs.method, span_of(inputs.declaration.where)
    if method.metric == "accuracy":
        items = read_tasks(inputs.base / (method.tasks or ""), method.samples, span=span)
        return Accuracy(runner, items, [encode_item(inputs.tokenizer, item) for item in items])
    if inputs.data is None:
        raise DiagnosticError(NoScoringText(span, score=inputs.score))
    text = scored(inputs, unseen=unseen)
    return Divergence(runner, text.tokens_NS, method.samples, top_k=method.top_k, learned_NS=text.learned_NS)
