"""TensorBoard curves of a run's figures, if TensorBoard is installed: `tensorboard --logdir build/board`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


class Board:
    """Writer of curves to `directory`. Does nothing without TensorBoard, or before a stage has loaded torch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._installed = importlib.util.find_spec("tensorboard") is not None
        self._writer: Any = None

    def add(self, task: str, step: int, figures: dict[str, float | str]) -> None:
        """Add one point to the curve of each numeric figure, such as `bld pieces/loss`, after `step` units of the task."""
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        if not numbers or not self._ready():
            return
        for name, value in numbers.items():
            self._writer.add_scalar(f"{task}/{name}", value, step)

    def close(self) -> None:
        """Write everything to the disk."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _ready(self) -> bool:
        if self._writer is None and self._installed and "torch" in sys.modules:
            module = importlib.import_module("torch.utils.tensorboard")
            self._writer = module.SummaryWriter(str(self._directory))
        return self._writer is not None
