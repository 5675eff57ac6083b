"""What a run shows of itself: curves where TensorBoard is installed, lines for people and for machines everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from puzzledsl.pipeline.process import reporter as board
from puzzledsl.pipeline.process.reporter import Reporter

POINTS: list[tuple[str, float, int]] = []


class SummaryWriter:
    """As much of TensorBoard's as is used."""

    def __init__(self, directory: str) -> None:
        POINTS.clear()
        Path(directory).mkdir()

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        POINTS.append((tag, value, step))

    def close(self) -> None:
        POINTS.append(("closed", 0, 0))


def test_numbers_become_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: object())
    assert torch.__name__ in sys.modules
    with Reporter(tmp_path / "log.jsonl") as progress:
        progress.start("bld pieces", 4)
        progress.advance(2, layer=0, loss="0.5 -> 0.25")
        progress.advance(1, tokens_per_s=12.5)
    assert POINTS == [("bld pieces/layer", 0, 2), ("bld pieces/tokens_per_s", 12.5, 3), ("closed", 0, 0)]


def test_without_it_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    with Reporter(tmp_path / "log.jsonl") as progress:
        progress.start("bld pieces", 4)
        progress.advance(1, loss=0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_for_people_and_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path / "log.jsonl") as progress:
        progress.log("paged", text="the parent is read [layer by layer]", room_bytes=7)
        progress.log("piece", id="a")
    assert capsys.readouterr().err == "  the parent is read [layer by layer]\n"
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["event"] == "paged" and first["room_bytes"] == 7 and second["id"] == "a"
