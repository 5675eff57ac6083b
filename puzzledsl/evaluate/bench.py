"""Measurement of the units of an evaluation in this process, with the parent in memory beside each model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.load import load_checkpoint
from puzzledsl.evaluate.choices import Answers, answers, can_share, log_likelihoods
from puzzledsl.evaluate.divergence import BlockFigures, compare_block, final_states
from puzzledsl.evaluate.errors import OtherModel
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.speed import Speed, child_speed, parent_speed
from puzzledsl.evaluate.units import PARENT, Found, Unit
from puzzledsl.ir.source_location import span_of
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.placement import placement

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Bench:
    """Holds the parent, loaded when first needed, and its final hidden states on the held-out blocks, and one more model."""

    def __init__(self, plan: Plan, parent_dir: Path, progress: Progress) -> None:
        self.plan, self.parent_dir, self.progress = plan, parent_dir, progress
        self._models: dict[tuple[Path, torch.device, torch.dtype], PreTrainedModel] = {}
        self._parent_states: dict[str, list[Tensor]] = {}

    def measure(self, unit: Unit, usual: Speed | None = None) -> Found:
        """Measure one unit. `usual`: the parent's speed in a child's scenario. Raises DiagnosticError."""
        self._forget_others(unit.directory)
        match unit.kind:
            case "text":
                model = self._placed(unit.directory)
                self._require_same_vocabulary(unit.model, model)
                params = sum(weight.numel() for weight in model.parameters())
                return Found(params=params, blocks=tuple(self.blocks(model, unit.of)))
            case "speed":
                return Found(speed=self.speed_of(unit, usual))
            case "task" | "harness":
                found = self.answers_to(unit.directory, unit.of if unit.kind == "task" else None)
                return Found(right=found.right, chances=found.chances)

    def _require_same_vocabulary(self, name: str, model: PreTrainedModel) -> None:
        expected = self._parent().config.vocab_size
        if (got := model.config.vocab_size) != expected:
            span = span_of(self.plan.declaration.where)
            raise DiagnosticError(OtherModel(span, model=name, got=got, expected=expected))

    def blocks(self, model: PreTrainedModel, text: str) -> list[BlockFigures]:
        """Compare a model with the parent on each block of a text."""
        parent = self._parent()
        (blocks_NT,) = (each.blocks_NT for each in self.plan.texts if each.name == text)
        if text not in self._parent_states:
            self._parent_states[text] = final_states(parent, blocks_NT)
        parent_states = self._parent_states[text]
        states = parent_states if model is parent else final_states(model, blocks_NT)
        parent_VH, model_VH = output_embedding(parent), output_embedding(model)
        found = []
        for ids_T, parent_TH, model_TH in zip(blocks_NT, parent_states, states, strict=True):
            found.append(compare_block(ids_T, parent_TH, parent_VH, model_TH, model_VH))
            self.progress.advance()
        return found

    def answers_to(self, directory: Path, name: str | None) -> Answers:
        """Return a model's answers to one task; None: to those of lm-evaluation-harness."""
        model = self._in_dtype_of_tasks(directory)
        if name is None:
            assert self.plan.harness is not None
            span = span_of(self.plan.declaration.where)
            return self.plan.harness.answers(model, self.plan.tokenizer, span, lambda rows: None)
        (task,) = (each for each in self.plan.tasks if each.name == name)
        share, advance = can_share(model, task.longest), self.progress.advance
        scores = log_likelihoods(model, task.encoded, share_context=share, advance=advance)
        return answers(task.name, task.items, scores)

    def _in_dtype_of_tasks(self, directory: Path) -> PreTrainedModel:
        """Return the model that answers tasks: the same weights, in the dtype that the declaration says."""
        device, placed = placement(self.parent_dir)
        return self._load(directory, device, DTYPES.get(self.plan.declaration.dtype or "", placed))

    def speed_of(self, unit: Unit, usual: Speed | None) -> Speed:
        """Return a model's speed in a scenario, for a child relative to the parent's `usual` one."""
        (timed,) = (each for each in self.plan.timed if each.scenario == unit.of)
        parent = self._load(self.parent_dir, timed.device, timed.dtype)
        if unit.model == PARENT:
            return parent_speed(parent, timed.workload, self.progress.advance)
        assert usual is not None, "the parent is timed before its children"
        child = self._load(unit.directory, timed.device, timed.dtype)
        return child_speed(parent, usual, child, timed.workload, self.progress.advance)

    def _parent(self) -> PreTrainedModel:
        return self._placed(self.parent_dir)

    def _placed(self, directory: Path) -> PreTrainedModel:
        return self._load(directory, *placement(self.parent_dir))

    def _load(self, directory: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        key = (directory, device, dtype)
        if key not in self._models:
            self._models[key] = load_checkpoint(directory, dtype=dtype, device=device)
        return self._models[key]

    def _forget_others(self, directory: Path) -> None:
        """Drop the weights of children other than the one in `directory`; the parent stays."""
        kept = (directory, self.parent_dir)
        self._models = {key: model for key, model in self._models.items() if key[0] in kept}
