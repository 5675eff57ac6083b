"""The bench on which models are measured one after the other, the parent beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.evaluate.choices import accuracy_figures, log_likelihoods, right_answers
from puzzledsl.evaluate.compare import PERPLEXITY
from puzzledsl.evaluate.divergence import BlockFigures, compare_block, divergence_figures, final_states
from puzzledsl.evaluate.errors import OtherModel
from puzzledsl.evaluate.plan import Plan, span_of
from puzzledsl.evaluate.speed import ROUNDS, Speed, child_speed, parent_speed, speed_figures
from puzzledsl.files import sha256_of
from puzzledsl.ir.base import Frozen
from puzzledsl.ir.tables import Figure, ModelFigures
from puzzledsl.modeling.child import load_checkpoint
from puzzledsl.modeling.placement import placement
from puzzledsl.progress import Progress
from puzzledsl.seals import read_sealed, write_sealed

METHOD = "2"  # raise it when a figure's meaning changes, so that unfinished work is not continued
PARENT = "parent"


class Measured(Frozen):
    """A model's figures, and what children are compared by: raw speeds, and values of every item and block."""

    figures: ModelFigures
    speeds: dict[str, Speed] = {}
    samples: dict[str, tuple[float, ...]] = {}


class Bench:
    """Holds the parent, loaded when first needed, and its final hidden states on the held-out blocks."""

    def __init__(self, plan: Plan, parent_dir: Path, work: Path, progress: Progress) -> None:
        self.plan, self.parent_dir = plan, parent_dir
        self.work, self.progress = work, progress
        self._models: dict[tuple[Path, torch.device, torch.dtype], PreTrainedModel] = {}
        self._parent_states: list[Tensor] = []
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
        self.progress.start(f"evaluating {name}", len(plan.blocks_NT) + items + turns)
        model = self._load(directory, *placement(self.parent_dir))
        expected = self._parent().config.vocab_size
        if (got := model.config.vocab_size) != expected:
            span = span_of(plan.declaration)
            raise DiagnosticError(OtherModel(span, model=name, got=got, expected=expected))
        blocks = self._blocks(model)
        samples = {PERPLEXITY: tuple(block.cross_entropy for block in blocks)}
        figures = {
            "params": Figure(value=sum(weight.numel() for weight in model.parameters())),
            "checkpoint_bytes": Figure(value=_stored_bytes(directory), unit="bytes"),
            **divergence_figures(blocks),
        }
        speeds: dict[str, Speed] = {}
        if full:
            right = self._tasks(model)
            figures |= accuracy_figures(right)
            samples |= right
            speeds = self._speeds(name, directory)
            for timed in plan.timed:
                figures |= speed_figures(timed.scenario, speeds[timed.scenario], timed.workload)
        del model
        self._forget(directory)
        of_model = ModelFigures(model=name, figures=figures)
        return Measured(figures=of_model, speeds=speeds, samples=samples)

    def _blocks(self, model: PreTrainedModel) -> list[BlockFigures]:
        parent, blocks_NT = self._parent(), self.plan.blocks_NT
        if not self._parent_states:
            self._parent_states = final_states(parent, blocks_NT)
        states = self._parent_states if model is parent else final_states(model, blocks_NT)
        parent_VH, model_VH = _embedding(parent), _embedding(model)
        found = []
        for ids_T, parent_TH, model_TH in zip(blocks_NT, self._parent_states, states, strict=True):
            found.append(compare_block(ids_T, parent_TH, parent_VH, model_TH, model_VH))
            self.progress.advance()
        return found

    def _tasks(self, model: PreTrainedModel) -> dict[str, tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        for task in self.plan.tasks:
            share = task.longest <= _shortest_window(model)

            def advance(rows: int, share: bool = share) -> None:
                self.progress.advance(rows if share else 0)

            scores = log_likelihoods(model, task.encoded, share_context=share, advance=advance)
            if not share:
                self.progress.advance(len(task.items))
            found |= right_answers(task.name, task.items, scores)
        if self.plan.harness is not None:
            span = span_of(self.plan.declaration)
            found |= self.plan.harness.answers(model, self.plan.tokenizer, span, lambda rows: None)
        return found

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
        """What unfinished work belongs to: the weights, the parent's, and everything that is measured."""
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
        text = hashlib.sha256("\n".join(parts).encode())
        text.update(plan.blocks_NT.numpy().tobytes())
        return text.hexdigest()[:16]

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


def _embedding(model: PreTrainedModel) -> Tensor:
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight: Tensor = head.weight
    return weight


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _shortest_window(model: PreTrainedModel) -> float:
    """The least tokens that some layer sees, infinite where all see everything."""
    config: Any = model.config
    blocks = getattr(config, "block_configs", None) or []
    windows = [getattr(config, "sliding_window", None)]
    windows += [block["attention"].get("window_length") for block in blocks]
    return min((float(window) for window in windows if window), default=float("inf"))
