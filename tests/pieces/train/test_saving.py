"""States are written no more often than they are worth, and initial weights lie on the disk alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.base import files as checksums
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import Executor
from puzzledsl.data.counts import Budget
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train import stream as streaming
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.stage import SavedState, Stage
from puzzledsl.pieces.train.stream import stream
from puzzledsl.pieces.train.sweep import Activations
from puzzledsl.plan.bld import bld_plan
from tests.pieces.train.bld_programs import make_program

SHORT: dict[str, Any] = {"tokens": 320, "calibration_tokens": 128, "model": {"layers": 2}}  # five steps


def order_in(base: Path) -> Order:
    program = make_program(base, **SHORT)
    jobs = bld_plan(program, "b")
    budget = Budget.of(jobs[0])
    tokens = torch.randint(4, 260, (budget.blocks, 16), generator=torch.Generator().manual_seed(0))
    init = program.spaces["w"].init
    return Order("b", base / "parent", jobs, budget, init, tokens, base / "library", base / "work")


def initialised(order: Order) -> Stage:
    """A stage of both layers with initialised pieces."""
    stage = Stage(order, 0, 2)
    for batch in order.calibration_batches():
        assert stage.calibrate(stage.embed(batch)) is None, "no stage is above"
    stage.initialise()
    return stage


def begin(stage: Stage, order: Order) -> None:
    for batch in order.held_out_batches():
        stage.evaluate(stage.embed(batch))
    stage.begin()


def test_a_state_is_recorded_when_all_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, recorded = order_in(tmp_path), []

    class Recording(SavedState):
        def commit(self, step: int) -> None:
            recorded.append(step)
            Stage(order, 0, 2).restore(step)
            super().commit(step)

    monkeypatch.setattr(streaming, "SavedState", Recording)
    monkeypatch.setattr(streaming, "SAVED_STEPS", 2)
    monkeypatch.setattr(streaming, "SAVED_SHARE", float("inf"))
    (tmp_path / "work").mkdir()
    stream(order, Executor(), lambda piece, kept: None, Silent())
    assert recorded == [0, 2, 4, 5]


def test_initial_weights_are_read_when_the_end_needs_them(tmp_path: Path) -> None:
    order = order_in(tmp_path)
    stage = initialised(order)
    pieces = [*stage._all()]
    before = [piece.initial() for piece in pieces]
    begin(stage, order)
    for piece, initial in zip(pieces, before, strict=True):
        assert piece.initial().keys() == initial.keys()
        assert all(torch.equal(piece.initial()[name], weight) for name, weight in initial.items())
    trained = next(p for p in pieces if p.student.job.layer == 1 and p.student.needs_training)
    (order.work / "state" / "initial" / f"{trained.student.job.id}.safetensors").write_bytes(b"damaged")
    with pytest.raises(DiagnosticError):
        _ = trained.initial()


def test_activations_are_sealed_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again to be hashed, and the file of an interrupted run is taken up."""
    order = order_in(tmp_path)
    monkeypatch.setattr(checksums, "sha256_of", None)
    runner, batches = LayerRunner(load_parent(order.parent_dir)), [slice(0, 3), slice(3, 8)]
    work = tmp_path / "hidden"
    activations = Activations(runner, order.tokens[:8], batches, work, last_layer=1)
    seen: list[torch.Tensor] = []
    activations.move_to(1)
    again = Activations(runner, order.tokens[:8], batches, work, last_layer=1)
    assert again.layer_idx == 1
    again.step(lambda number, hidden: seen.append(hidden.clone()) or hidden)  # type: ignore[func-returns-value]
    with torch.no_grad():
        expected = runner.run_layer(0, runner.embed(order.tokens[:8]))
    torch.testing.assert_close(torch.cat(seen), expected)
