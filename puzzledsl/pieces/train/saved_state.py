"""State of a pipeline's training on disk, layer by layer, so that stages with other spans of layers can resume from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import is_sealed_beside, read_sealed, seal_beside, write_bytes, write_sealed
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.pieces.train.layer_trainer import LayerTrainer, Order
from puzzledsl.pieces.train.student import Student


class SavedState:
    """Files of one order: `initial/layer-<n>` (weights and losses before training) and `step-<k>/layer-<n>`."""

    def __init__(self, order: Order) -> None:
        self._order, self._root = order, order.work / "state"

    def last_step(self) -> int | None:
        """Return the last step that all stages saved, 0 being the initial weights.

        None if nothing is saved, or the record is damaged or lacks some of the order's jobs.
        """
        content = read_sealed(self._root / "saved.json")
        if content is None:
            return None
        saved = json.loads(content)
        return int(saved["step"]) if {job.id for job in self._order.jobs} <= set(saved["jobs"]) else None

    def commit(self, step: int) -> None:
        """Record that every stage has saved this step, so that a run resumes from it; delete the state of earlier steps."""
        saved = {"step": step, "jobs": [job.id for job in self._order.jobs]}
        write_sealed(self._root / "saved.json", json.dumps(saved))
        for old in self._root.glob("step-*"):
            if int(old.name.removeprefix("step-")) < step:  # stages may be writing later ones
                shutil.rmtree(old, ignore_errors=True)

    def save_initial(self, layer_idx: int, trainer: LayerTrainer) -> None:
        """Save the initial weights and losses of a layer's pieces, which drop the weights: the end reads them if needed."""
        losses = {piece.student.job.id: piece.loss_initial for piece in trainer.pieces}
        tensors = {piece.student.job.id: piece.initial for piece in trainer.pieces}
        _write(self._initial(layer_idx), _flat(tensors), {"losses": json.dumps(losses)})
        self._keep_on_disk(layer_idx, trainer)

    def taken(self, trainer: LayerTrainer, *, copy: bool) -> dict[str, Tensor]:
        """Return the state of a layer's pieces in the host's memory; `copy`: the training that goes on does not change it."""
        tensors = {piece.student.job.id: piece.state_dict() for piece in trainer.pieces}
        return {name: tensor.detach().to("cpu", copy=copy) for name, tensor in _flat(tensors).items()}

    def save(self, step: int, layer_idx: int, taken: dict[str, Tensor]) -> None:
        """Save what `taken` returned after `step` steps; on return it is on the disk."""
        _write(self._trained(step, layer_idx), taken, {})

    def load(self, step: int, layer_idx: int, model: PreTrainedModel) -> LayerTrainer:
        """Load a layer's pieces as they were after `step` steps.

        Raises DiagnosticError (UnfinishedWorkDamaged) for missing or damaged files.
        """
        initial_path, trained_path = self._initial(layer_idx), self._trained(step, layer_idx)
        self._require_intact([initial_path, trained_path] if step else [initial_path])
        initial = _by_job(load_file(initial_path))
        with safe_open(initial_path, "pt") as file:
            losses = json.loads(file.metadata()["losses"])
        trained = _by_job(load_file(trained_path)) if step else {}
        students = [Student.restore(job, model, initial[job.id]) for job in self._order.jobs_of(layer_idx)]
        trainer = LayerTrainer(students, self._order.budget.steps)
        for piece in trainer.pieces:
            job_id = piece.student.job.id
            piece.loss_initial = losses[job_id]
            if job_id in trained:
                piece.load_state_dict(trained[job_id])
        self._keep_on_disk(layer_idx, trainer)
        return trainer

    def _keep_on_disk(self, layer_idx: int, trainer: LayerTrainer) -> None:
        for piece in trainer.pieces:
            piece.keep_initial_elsewhere(partial(self._read_initial, layer_idx, piece.student))

    def _read_initial(self, layer_idx: int, student: Student) -> dict[str, Tensor]:
        """Read a piece's initial weights. Raises DiagnosticError (UnfinishedWorkDamaged)."""
        self._require_intact([path := self._initial(layer_idx)])
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(f"{student.job.id}/{name}") for name in student.weight_names()}

    def _require_intact(self, paths: Iterable[Path]) -> None:
        problems = [
            UnfinishedWorkDamaged(None, path=path, folder=self._order.work)
            for path in paths
            if not is_sealed_beside(path)
        ]
        if problems:
            raise DiagnosticError(*problems)

    def _initial(self, layer_idx: int) -> Path:
        return self._root / "initial" / f"layer-{layer_idx}.safetensors"

    def _trained(self, step: int, layer_idx: int) -> Path:
        return self._root / f"step-{step}" / f"layer-{layer_idx}.safetensors"


def _flat(tensors: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{job}/{name}": tensor for job, of_job in tensors.items() for name, tensor in of_job.items()}


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(stored, metadata={"format": "pt", **metadata}))
    seal_beside(path)


def _by_job(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        job, _, own = name.partition("/")
        found.setdefault(job, {})[own] = tensor
    return found
