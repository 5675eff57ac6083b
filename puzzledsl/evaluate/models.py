"""Models of an evaluation in the memory that there is: one copy of each, which gives way to others, or is read as it runs."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.child.load import least_bytes, load_checkpoint
from puzzledsl.evaluate.errors import TooLargeToTime
from puzzledsl.models.families.access import base_shape_of, layers, output_embedding
from puzzledsl.models.families.paged import is_paged, paged_parent
from puzzledsl.models.families.repeated import layers_with_weights
from puzzledsl.models.placement import KEPT_SHARE, SHARE, free_bytes, weights_bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """A model's weights in one dtype on one device."""

    directory: Path
    device: torch.device
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return weights_bytes(self.directory, self.dtype)


class Models:
    """Loaded models. Of a directory there is one copy at a time; what was used longest ago is dropped to make room."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._loaded: dict[Copy, PreTrainedModel] = {}

    @property
    def loaded(self) -> tuple[Copy, ...]:
        """The copies in memory, from the least to the most recently used."""
        return tuple(self._loaded)

    def get(self, directory: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        """Return a model; where it does not fit, one that reads its weights layer by layer, with the same numbers.

        Raises DiagnosticError: those of `load_checkpoint`.
        """
        copy = Copy(directory, device, dtype)
        if copy not in self._loaded:
            fits = self._make_room([copy])
            self._loaded[copy] = (
                load_checkpoint(directory, dtype=dtype, device=device) if fits else self._paged(copy)
            )
        self._loaded[copy] = self._loaded.pop(copy)
        return self._loaded[copy]

    def beside(self, copies: Iterable[Copy]) -> list[PreTrainedModel] | None:
        """Return models that are whole in memory together; None if they do not fit. Raises as `get` does."""
        wanted = list(copies)
        if not self._make_room(wanted):
            return None
        return [self.get(copy.directory, copy.device, copy.dtype) for copy in wanted]

    def to_time(self, copy: Copy, name: str) -> PreTrainedModel:
        """Return a model whose forward can be timed: where it does not fit, one in which layers use the weights of others.

        Such a model computes something else, so it is not kept. Raises DiagnosticError (TooLargeToTime): not even `LEAST` layers
        of each kind fit.
        """
        found = self.beside([copy])
        if found is not None:
            return found[0]
        self._loaded.clear()
        gc.collect()
        room_bytes = int(SHARE * free_bytes(copy.device))
        needed = least_bytes(copy.directory, copy.dtype)
        if needed > room_bytes:
            least, room = (format_quantity(n, BYTES) for n in (needed, free_bytes(copy.device)))
            raise DiagnosticError(
                TooLargeToTime(None, model=name, needed=least, room=room, device=copy.device.type)
            )
        model = load_checkpoint(copy.directory, dtype=copy.dtype, device=copy.device, room_bytes=room_bytes)
        own, depth = layers_with_weights(layers(model)), len(layers(model))
        self.progress.log(
            "timed_with_repeated_weights",
            text=f"{name} does not fit in memory: it is timed with the weights of {own} of its {depth} layers, "
            "which the others use too",
            model=name,
            layers_with_weights=own,
        )
        return model

    def keep_only(self, directories: Iterable[Path]) -> None:
        """Drop the weights of all other directories."""
        kept = set(directories)
        self._loaded = {copy: model for copy, model in self._loaded.items() if copy.directory in kept}

    def _make_room(self, wanted: list[Copy]) -> bool:
        """Drop other copies of the same models, and others as long as these do not fit; return True if they do."""
        ours = {copy.directory for copy in wanted}
        for copy in [c for c in self._loaded if c.directory in ours and c not in wanted]:
            del self._loaded[copy]
        for copy in [c for c in wanted if c in self._loaded and is_paged(self._loaded[c])]:
            del self._loaded[copy]
        gc.collect()  # a model's hooks and modules refer to each other
        others = [copy for copy in self._loaded if copy not in wanted]
        while not self._fit(wanted):
            if not others:
                return False
            del self._loaded[others.pop(0)]
            gc.collect()
        return True

    def _fit(self, wanted: list[Copy]) -> bool:
        """True if these, beside what is loaded, leave a device the room that activations need."""
        for device in {copy.device for copy in wanted}:
            new = sum(copy.bytes for copy in wanted if copy.device == device and copy not in self._loaded)
            there = sum(copy.bytes for copy in self._loaded if copy.device == device)
            free = free_bytes(device)  # of a CPU without what is loaded, of a GPU in all
            if new and new > SHARE * free - (there if device.type == "cuda" else 0):
                return False
        return True

    def _paged(self, copy: Copy) -> PreTrainedModel:
        needed, room = copy.bytes, free_bytes(copy.device)
        kept = int(KEPT_SHARE * room)
        self.progress.log(
            "paged",
            text=f"the weights of {copy.directory.name} ({format_quantity(needed, BYTES)}) do not fit in memory "
            f"({format_quantity(room, BYTES)} is free): they are read layer by layer",
            weights_bytes=needed,
            room_bytes=room,
            kept_bytes=kept,
        )
        model, _ = paged_parent(
            copy.directory, room_bytes=kept, keep_head=True, dtype=copy.dtype, device=copy.device
        )
        return model


def parameters_of(model: PreTrainedModel) -> int:
    """Return the number of parameters; a tied embedding counts once."""
    twice = is_paged(model) and base_shape_of(model.config).tied
    return sum(w.numel() for w in model.parameters()) - (output_embedding(model).numel() if twice else 0)
