"""Tensors on disk are whole as they were saved, or not there; a saved state is the whole state."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.uptrain import state
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, join_alone, leave
from puzzledsl.uptrain.state import Store, TrainingProgress, TrainingState
from tests.tiny import tiny_model, tiny_tokens


def test_a_file_cut_anywhere_is_not_read(tmp_path: Path) -> None:
    Store(tmp_path).save("state", {"one": torch.arange(500.0)}, {"step": "3"})
    dice = random.Random(0)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for cut in (0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(20))):
            path.write_bytes(content[:cut])
            assert Store(tmp_path).contents("state") is None
            with pytest.raises(DiagnosticError):
                Store(tmp_path).load("state", {"one": torch.zeros(500)})
        path.write_bytes(content)
    assert Store(tmp_path).contents("state") == ({"one"}, {"step": "3"})


@pytest.mark.parametrize("during", ["save_file", "sha256_of", "write_sealed"])
def test_killed_while_a_set_is_written_the_old_one_stays(tmp_path: Path, monkeypatch, during: str) -> None:
    kept = Store(tmp_path)
    kept.save("state", {"one": torch.zeros(3)}, {"step": "1"})

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state, during, killed)
        with pytest.raises(KeyboardInterrupt):
            kept.save("state", {"one": torch.ones(3)}, {"step": "2"})
    again = Store(tmp_path)
    assert again.contents("state") == ({"one"}, {"step": "1"})
    again.save("state", {"one": torch.ones(3)}, {"step": "3"})
    assert again.contents("state") == ({"one"}, {"step": "3"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-1-0.safetensors", "state.json"]


def test_tensors_cut_over_one_process_are_kept(tmp_path: Path) -> None:
    """As FSDP's are, which moves a child's state to the host of a single GPU."""
    join_alone()
    try:
        values = torch.arange(6.0).view(3, 2)
        cut: list[DTensor] = [
            distribute_tensor(each, SINGLE_PROCESS.mesh(), [Shard(0)]) for each in (values, torch.zeros(3, 2))
        ]
        Store(tmp_path).save("state", {"one": cut[0]}, {})
        Store(tmp_path).load("state", {"one": cut[1]})
        assert torch.equal(cut[1].to_local(), values)
    finally:
        leave()


def trained(folder: Path, seed: int, steps: int = 2, **sizes) -> TrainingState:
    model = tiny_model(seed=seed, **{"tied": True, **sizes}).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    run = TrainingState(model, optimizer, Store(folder))
    for step in range(steps):
        take_step(run, step)
    return run


def take_step(run: TrainingState, step: int) -> None:
    run.model(tiny_tokens(seed=step)).logits.square().mean().backward()
    run.optimizer.step()
    run.optimizer.zero_grad()


def test_a_state_that_is_changed_or_another_models_changes_nothing(tmp_path):
    run = trained(tmp_path, 0, steps=0)
    before = {name: value.clone() for name, value in run.tensors().items()}
    flipped, smaller = tmp_path / "flipped", tmp_path / "smaller"
    trained(flipped, 1).save(TrainingProgress(2))
    (file,) = flipped.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1  # in a tensor: the file can be read
    file.write_bytes(content)
    trained(smaller, 1, layers=1).save(TrainingProgress(2))
    for folder in (tmp_path / "absent", flipped, smaller):
        assert replace(run, store=Store(folder)).load() is None
        now = run.tensors()
        assert all(torch.equal(now[name], before[name]) for name in before)
