"""Every stage of every family on the pretended GPU: measure, bld, score, solve, refine, realise, uptrain, eval and export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import puzzledsl as pzl
from puzzledsl.evaluate import bench
from puzzledsl.evaluate import units as speed
from puzzledsl.families.registry import FAMILIES
from puzzledsl.measure import estimate
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.pretended_gpu.programs import COUPLED, LAYERS, write_program

MARKS = {"llama": (), **dict.fromkeys(("gemma3_text", "gpt_oss", "nemotron_h"), pytest.mark.more)}
"""Plain layers and coupled blocks in `make test`; then windows, experts with sinks, and state spaces; others are just slow."""
NO_WAITS = (
    "models/kernels/",
    "pieces/train/sweep.py",
    "scoring/replacements.py",
    "models/machine.py",
)
"""Code that runs at every step, for every piece or every tile: it never waits for the device."""
WAITS = {
    "child/healing/fit.py": 20,  # one a fit
    "models/least_squares/grams.py": 400,  # one a solved system; experts have many
    "pieces/initialise/gauss_newton.py": 20,  # two a point of a fit
    "pieces/train/student.py": 150,  # one a tensor of a piece, before its training and behind it
    "pieces/train/layer_trainer.py": 8,  # one a calibration batch
    # at the first and the last evaluation, and to write the piece; one a batch, for the copy of the one before
    "pieces/train/piece_state.py": 56,
    "scoring/measures.py": 60,  # three a replacement and child
}
"""Most waits a layer of the parent, in loops of one of these programs."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time everything once: no time means anything here. Few tokens of an answer show what every token does."""
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECKED_CHILDREN", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(bench, "ANSWER_TOKENS", 8)


def check(gpu: Gpu, family: str) -> None:
    """Bfloat16 throughout, no hidden waits, nothing added in any order."""
    for part in NO_WAITS:
        assert not gpu.waits_in(f" {part}"), gpu.waits_in(f" {part}")
    found = {file: gpu.waits_in(f" {file}") for file in WAITS}
    layers = LAYERS.get(family, 2)
    too_many = {file: waits for file, waits in found.items() if waits.total() > WAITS[file] * layers}
    assert not too_many
    assert not gpu.any_order
    assert {dtype for dtype, *_ in gpu.attention} == ({torch.bfloat16} if family != "gpt_oss" else set())
    assert gpu.flop[torch.bfloat16] > 0


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in FAMILIES]
)
@pytest.mark.usefixtures("quick")
def test_every_stage(family: str, tmp_path: Path) -> None:
    more = COUPLED.format(gqa="gqa(kv_heads: 1)") if family == "llama" else ""
    program = write_program(tmp_path, family, more=more)
    with pretended_gpu(replays=1) as gpu:
        pzl.load(program).run()
        check(gpu, family)
    assert (tmp_path / "out" / "config.json").is_file()
