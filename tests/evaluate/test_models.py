"""Models of an evaluation in little memory: no two copies of one, no model beside another that does not fit, the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.evaluate import bench as models
from puzzledsl.evaluate.bench import Copy, Models, parameters_of
from puzzledsl.evaluate.errors import TooLargeToTime
from puzzledsl.models.placement import SHARE, is_paged, weights_bytes
from tests.tiny import save_tiny, tiny_tokens
from tests.uptrain.cases import Case, Recorder, make_case

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, BF16 = torch.float32, torch.bfloat16


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("models"))


def room_for(monkeypatch: pytest.MonkeyPatch, held: Models, *directories: Path) -> None:
    """Memory for the float32 weights of these and their activations, less what is loaded on a CPU."""
    total = sum(weights_bytes(directory, FP32) for directory in directories) / SHARE + 8
    monkeypatch.setattr(
        models, "free_bytes", lambda device: int(total - sum(copy.bytes for copy in held.loaded) / SHARE)
    )


def test_a_model_has_one_copy_at_a_time(case: Case) -> None:
    held = Models(Recorder())
    first = held.get(case.parent, CPU, FP32)
    assert held.get(case.parent, CPU, FP32) is first
    held.get(case.child, CPU, FP32)
    assert held.get(case.parent, CPU, BF16).dtype == BF16
    assert [(copy.directory, copy.dtype) for copy in held.loaded] == [(case.child, FP32), (case.parent, BF16)]


def test_one_gives_way_to_the_other_where_both_do_not_fit(case: Case, monkeypatch) -> None:
    held = Models(Recorder())
    room_for(monkeypatch, held, case.parent)
    for directory in (case.parent, case.child, case.parent):
        assert not is_paged(held.get(directory, CPU, FP32))
        assert [copy.directory for copy in held.loaded] == [directory]
    both = [Copy(case.parent, CPU, FP32), Copy(case.child, CPU, FP32)]
    assert held.beside(both) is None
    room_for(monkeypatch, held, case.parent, case.child)
    assert held.beside(both) is not None and len(held.loaded) == 2


def test_what_fits_no_other_way_is_read_as_it_runs(case: Case, tmp_path: Path, monkeypatch) -> None:
    directories = save_tiny(tmp_path / "tied", tied=True), case.child
    progress = Recorder()
    held, ids = Models(progress), tiny_tokens()
    monkeypatch.setattr(models, "free_bytes", lambda device: 1000)
    for directory in directories:
        model, whole = held.get(directory, CPU, FP32), load_checkpoint(directory)
        assert is_paged(model) and torch.equal(model(ids).logits, whole(ids).logits)
        assert parameters_of(model) == parameters_of(whole) == sum(w.numel() for w in whole.parameters())
        with pytest.raises(DiagnosticError) as error:
            held.to_time(Copy(directory, CPU, FP32), "it")
        assert error.value.diagnostics[0].kind == TooLargeToTime
    assert len(progress.named("paged")) == 2


@pytest.mark.parametrize(("spare_bytes", "held_at_last"), [(8, 2), (-8, 1)])
def test_a_gpu_holds_what_is_loaded_and_the_next(case: Case, monkeypatch, spare_bytes, held_at_last) -> None:
    """Its memory is known in all, not what is free of it."""
    monkeypatch.setattr(models, "load_checkpoint", lambda directory, **k: torch.nn.Linear(1, 1))
    total = int((weights_bytes(case.parent, BF16) + weights_bytes(case.child, BF16)) / SHARE)
    monkeypatch.setattr(models, "free_bytes", lambda device: total + spare_bytes)
    held = Models(Recorder())
    for directory in (case.parent, case.child):
        held.get(directory, GPU, BF16)
    assert [copy.directory for copy in held.loaded] == [case.parent, case.child][-held_at_last:]
