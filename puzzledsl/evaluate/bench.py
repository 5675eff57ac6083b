"""Measurement of the units of an evaluation in this process."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.evaluate.choices import Answers, answers, can_share, log_likelihoods
from puzzledsl.evaluate.continuations import Prompt, continued_ids
from puzzledsl.evaluate.divergence import BlockFigures, compare_block, final_states
from puzzledsl.evaluate.errors import OtherModel
from puzzledsl.evaluate.models import Copy, Models, parameters_of
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.prompts import ANSWER_TOKENS
from puzzledsl.evaluate.repetition import repetition_of
from puzzledsl.evaluate.speed import (
    ROUNDS,
    Speed,
    TimeInEngine,
    child_speed,
    relative_speed,
    speed_alone,
    usual_speed,
)
from puzzledsl.evaluate.units import PARENT, Found, Unit
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware
from puzzledsl.ir.tables import Answer
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.families.load import load_config
from puzzledsl.models.families.paged import is_paged
from puzzledsl.models.placement import placement

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Bench:
    """Holds the models that a unit needs, if possible the parent beside each child, and what texts need of the parent."""

    def __init__(
        self, plan: Plan, parent_dir: Path, progress: Progress, engines: TimeInEngine | None = None
    ) -> None:
        self.plan, self.parent_dir, self.progress = plan, parent_dir, progress
        self._engines = engines
        self.models = Models(progress)
        self._parent_states: dict[str, list[Tensor]] = {}
        self._parent_VH: Tensor | None = None

    def measure(self, unit: Unit, usual: Speed | None = None) -> Found:
        """Measure one unit. `usual`: the parent's speed in a child's scenario. Raises DiagnosticError."""
        self.models.keep_only((unit.directory, self.parent_dir))
        match unit.kind:
            case "text":
                self._require_same_vocabulary(unit)
                blocks = self.blocks(unit.directory, unit.of)
                return Found(params=parameters_of(self._placed(unit.directory)), blocks=tuple(blocks))
            case "speed":
                return Found(speed=self.speed_of(unit, usual))
            case "answers":
                return Found(answers=self.answered(unit))
            case "task" | "harness":
                found = self.answers_to(unit.directory, unit.of if unit.kind == "task" else None)
                return Found(right=found.right, chances=found.chances)

    def _require_same_vocabulary(self, unit: Unit) -> None:
        expected, got = (load_config(path).vocab_size for path in (self.parent_dir, unit.directory))
        if got != expected:
            span = span_of(self.plan.declaration.where)
            raise DiagnosticError(OtherModel(span, model=unit.model, got=got, expected=expected))

    def blocks(self, directory: Path, text: str) -> list[BlockFigures]:
        """Compare a model with the parent on each block of a text."""
        (read,) = (each for each in self.plan.texts if each.name == text)
        blocks_NT = read.blocks_NT
        parent_states, parent_VH = self._parent_side(text, blocks_NT)
        model = self._placed(directory)
        states = parent_states if directory == self.parent_dir else final_states(model, blocks_NT)
        model_VH, found = output_embedding(model), []
        each_block = zip(blocks_NT, parent_states, states, read.counted(), strict=True)
        for ids_T, parent_TH, model_TH, counted in each_block:
            found.append(compare_block(ids_T, parent_TH, parent_VH, model_TH, model_VH, counted))
            self.progress.advance()
        return found

    def _parent_side(self, text: str, blocks_NT: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the parent's final states on a text and its output embedding, which stay when the parent is dropped."""
        if text not in self._parent_states or self._parent_VH is None:
            parent = self._placed(self.parent_dir)
            self._parent_states[text] = final_states(parent, blocks_NT)
            self._parent_VH = output_embedding(parent).detach()
        return self._parent_states[text], self._parent_VH

    def answers_to(self, directory: Path, name: str | None) -> Answers:
        """Return a model's answers to one task; None: to those of lm-evaluation-harness."""
        model = self._in_dtype_of_tasks(directory)
        if name is None:
            assert self.plan.harness is not None
            span = span_of(self.plan.declaration.where)
            self.plan.harness.check(span)
            return self.plan.harness.answers(model, self.plan.tokenizer, span, lambda rows: None)
        (task,) = (each for each in self.plan.tasks if each.name == name)
        share, advance = can_share(model, task.longest), self.progress.advance
        scores = log_likelihoods(model, task.encoded, share_context=share, advance=advance)
        return answers(task.name, task.items, scores)

    def answered(self, unit: Unit) -> tuple[Answer, ...]:
        """Return a model's greedy answers to the prompts; none of weights that are read layer by layer, at every token."""
        model, prompts = self._placed(unit.directory), self.plan.prompts
        if is_paged(model):
            self.progress.log("not_asked", text=f"{unit.model} answers no prompts: it is larger than memory")
            self.progress.advance(len(prompts))
            return ()
        asked = [Prompt(prompt.ids, ANSWER_TOKENS, ()) for prompt in prompts]
        rows, tokenizer = (
            continued_ids(model, self.plan.tokenizer, asked, self.progress.advance),
            self.plan.tokenizer,
        )
        return tuple(
            Answer(
                text=str(tokenizer.decode(ids, skip_special_tokens=True)),
                tokens=len(ids),
                repetition=repetition_of(ids),
            )
            for ids in rows
        )

    def _in_dtype_of_tasks(self, directory: Path) -> PreTrainedModel:
        """Return the model that answers tasks: the same weights, in the dtype that the declaration says."""
        device, placed = placement(self.parent_dir)
        return self.models.get(directory, device, DTYPES.get(self.plan.declaration.dtype or "", placed))

    def speed_of(self, unit: Unit, usual: Speed | None) -> Speed:
        """Return a model's speed in a scenario: a child's relative to the parent's `usual` one, if both fit into memory together.

        Raises DiagnosticError (TooLargeToTime).
        """
        (timed,) = (each for each in self.plan.timed if each.scenario == unit.of)
        if isinstance(timed.on, Hardware):
            return self._speed_in_engine(unit, timed.on, timed.workload, usual)
        parent, child = (Copy(path, *timed.on) for path in (self.parent_dir, unit.directory))
        pair = None if unit.model == PARENT else self.models.beside([parent, child])
        if pair is None:
            model = self.models.to_time(child, unit.model)
            return speed_alone(model, timed.workload, self.progress.advance)
        assert usual is not None, "the parent is timed before its children"
        return child_speed(pair[0], usual, pair[1], timed.workload, self.progress.advance)

    def _speed_in_engine(
        self, unit: Unit, hardware: Hardware, workload: Workload, usual: Speed | None
    ) -> Speed:
        assert self._engines is not None, "the pipeline gives it"
        models = [self.parent_dir, *([] if unit.model == PARENT else [unit.directory])]
        parent, *child = self._engines(hardware, workload, models, ROUNDS)
        self.progress.advance(ROUNDS + 1)
        if not child:
            return usual_speed(parent)
        assert usual is not None, "the parent is timed before its children"
        return relative_speed(usual, parent, child[0])

    def _placed(self, directory: Path) -> PreTrainedModel:
        return self.models.get(directory, *placement(self.parent_dir))
