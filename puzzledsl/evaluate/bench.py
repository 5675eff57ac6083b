"""Sequential measurement of several models, with the parent in memory beside each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of
from puzzledsl.base.frozen import Frozen
from puzzledsl.base.progress import Progress
from puzzledsl.child.load import load_checkpoint
from puzzledsl.evaluate.choices import (
    Answers,
    accuracy_figures,
    answers,
    can_share,
    log_likelihoods,
    together,
)
from puzzledsl.evaluate.compare import PERPLEXITY
from puzzledsl.evaluate.divergence import BlockFigures, compare_block, divergence_figures, final_states
from puzzledsl.evaluate.errors import OtherModel
from puzzledsl.evaluate.plan import Plan, Text
from puzzledsl.evaluate.speed import ROUNDS, Speed, child_speed, parent_speed, speed_figures
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import Figure, ModelFigures
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.placement import placement

METHOD = "3"  # raise it when a figure's meaning changes, so that unfinished work is not continued
PARENT = "parent"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Measured(Frozen):
    """A model's figures, and what children are compared by: raw speeds, and values of every item and block.

    `chances`: of accuracies, what guessing gives, one value an item.
    """

    figures: ModelFigures
    speeds: dict[str, Speed] = {}
    samples: dict[str, tuple[float, ...]] = {}
    chances: dict[str, tuple[float, ...]] = {}


class Bench:
    """Holds the parent, loaded when first needed, and its final hidden states on the held-out blocks."""

    def __init__(self, plan: Plan, parent_dir: Path, work: Path, progress: Progress) -> None:
        self.plan, self.parent_dir = plan, parent_dir
        self.work, self.progress = work, progress
        self._models: dict[tuple[Path, torch.device, torch.dtype], PreTrainedModel] = {}
        self._parent_states: dict[str, list[Tensor]] = {}
        self._parent_speeds: dict[str, Speed] = {}
        self._hashes: dict[Path, str] = {}

    def measure(self, name: str, directory: Path, *, full: bool) -> Measured:
        """One model's figures, from `work` where an interrupted run left them there."""
        path = self.work / f"{name}-{self._digest(name, directory, full)}.json"
        found = _read(path)
        if found is None:
            found = self._measure_now(name, directory, full)
            write_sealed(path, found.canonical_json())
        if name == PARENT:
            self._parent_speeds = found.speeds
        shown = {key: figure.value for key, figure in found.figures.figures.items()}
        self.progress.log("evaluated", model=name, **shown)
        return found

    def _measure_now(self, name: str, directory: Path, full: bool) -> Measured:
        plan = self.plan
        items = sum(len(task.items) for task in plan.tasks) if full else 0
        turns = (ROUNDS + 1) * len(plan.timed) if full else 0
        texts = sum(len(text.blocks_NT) for text in plan.texts)
        self.progress.start(f"evaluating {name}", texts + items + turns)
        model = self._load(directory, *placement(self.parent_dir))
        expected = self._parent().config.vocab_size
        if (got := model.config.vocab_size) != expected:
            span = span_of(plan.declaration.where)
            raise DiagnosticError(OtherModel(span, model=name, got=got, expected=expected))
        blocks = {text.name: self._blocks(model, text) for text in plan.texts}
        texts_figures = {text: divergence_figures(of_text) for text, of_text in blocks.items()}
        first = plan.texts[0].name
        samples = {PERPLEXITY: tuple(block.cross_entropy for block in blocks[first])}
        figures = {
            "params": Figure(value=sum(weight.numel() for weight in model.parameters())),
            "checkpoint_bytes": Figure(value=_stored_bytes(directory), unit="bytes"),
            **texts_figures[first],
        }
        speeds: dict[str, Speed] = {}
        chances: dict[str, tuple[float, ...]] = {}
        if full:
            answered = self._tasks(self._in_dtype_of_tasks(model, directory))
            figures |= accuracy_figures(answered.right)
            samples |= answered.right
            chances = answered.chances
            speeds = self._speeds(name, directory)
            for timed in plan.timed:
                figures |= speed_figures(timed.scenario, speeds[timed.scenario], timed.workload)
        del model
        self._forget(directory)
        of_model = ModelFigures(model=name, figures=figures, texts=texts_figures)
        return Measured(figures=of_model, speeds=speeds, samples=samples, chances=chances)

    def _blocks(self, model: PreTrainedModel, text: Text) -> list[BlockFigures]:
        parent, blocks_NT = self._parent(), text.blocks_NT
        if text.name not in self._parent_states:
            self._parent_states[text.name] = final_states(parent, blocks_NT)
        parent_states = self._parent_states[text.name]
        states = parent_states if model is parent else final_states(model, blocks_NT)
        parent_VH, model_VH = output_embedding(parent), output_embedding(model)
        found = []
        for ids_T, parent_TH, model_TH in zip(blocks_NT, parent_states, states, strict=True):
            found.append(compare_block(ids_T, parent_TH, parent_VH, model_TH, model_VH))
            self.progress.advance()
        return found

    def _in_dtype_of_tasks(self, model: PreTrainedModel, directory: Path) -> PreTrainedModel:
        """The model that answers tasks: the same weights, in the dtype that the declaration says."""
        device, placed = placement(self.parent_dir)
        dtype = DTYPES.get(self.plan.declaration.dtype or "", placed)
        return model if dtype == placed or not self._has_tasks else self._load(directory, device, dtype)

    @property
    def _has_tasks(self) -> bool:
        return bool(self.plan.tasks or self.plan.harness)

    def _tasks(self, model: PreTrainedModel) -> Answers:
        found = []
        for task in self.plan.tasks:
            share, advance = can_share(model, task.longest), self.progress.advance
            scores = log_likelihoods(model, task.encoded, share_context=share, advance=advance)
            found.append(answers(task.name, task.items, scores))
        if self.plan.harness is not None:
            span = span_of(self.plan.declaration.where)
            found.append(self.plan.harness.answers(model, self.plan.tokenizer, span, lambda rows: None))
        return together(found)

    def _speeds(self, name: str, directory: Path) -> dict[str, Speed]:
        found: dict[str, Speed] = {}
        for timed in self.plan.timed:
            parent = self._load(self.parent_dir, timed.device, timed.dtype)
            advance = self.progress.advance
            if name == PARENT:
                found[timed.scenario] = parent_speed(parent, timed.workload, advance)
            else:
                child = self._load(directory, timed.device, timed.dtype)
                usual = self._parent_speeds[timed.scenario]
                found[timed.scenario] = child_speed(parent, usual, child, timed.workload, advance)
        return found

    def _parent(self) -> PreTrainedModel:
        return self._load(self.parent_dir, *placement(self.parent_dir))

    def _load(self, directory: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        key = (directory, device, dtype)
        if key not in self._models:
            self._models[key] = load_checkpoint(directory, dtype=dtype, device=device)
        return self._models[key]

    def _forget(self, directory: Path) -> None:
        """Let a child's weights go; the parent stays."""
        if directory != self.parent_dir:
            self._models = {key: model for key, model in self._models.items() if key[0] != directory}

    def _digest(self, name: str, directory: Path, full: bool) -> str:
        """Key of unfinished work: the weights, the parent's, and everything that is measured."""
        plan = self.plan
        parts = [
            METHOD,
            name,
            str(full),
            self._hash(directory),
            self._hash(self.parent_dir),
            repr(plan.timed),
        ]
        parts += [*(repr(task) for task in plan.tasks), repr(plan.harness)] if full else []
        parts += [plan.declaration.dtype] if full and plan.declaration.dtype else []
        parts += [text.name for text in plan.texts]
        digest = hashlib.sha256("\n".join(parts).encode())
        for text in plan.texts:
            digest.update(text.blocks_NT.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _hash(self, directory: Path) -> str:
        if directory not in self._hashes:
            files = sorted(
                p for p in directory.iterdir() if p.suffix == ".safetensors" or p.name == "config.json"
            )
            self._hashes[directory] = " ".join(sha256_of(path) for path in files)
        return self._hashes[directory]


def _read(path: Path) -> Measured | None:
    content = read_sealed(path)
    try:
        return None if content is None else Measured.from_json(content)
    except ValidationError:  # another version's
        return None


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
