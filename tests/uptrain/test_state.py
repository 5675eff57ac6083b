"""A saved state is the whole state; anything else is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from puzzledsl.uptrain.state import Store, TrainingProgress, TrainingState
from tests.tiny import tiny_model, tiny_tokens


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


def test_going_on_from_a_file_is_going_on(tmp_path):
    one, other = trained(tmp_path, 0), trained(tmp_path, 5, steps=0)
    one.save(TrainingProgress(2, {0: 0.1, 2: 0.1 + 0.2}))
    take_step(one, 7)
    done = other.load()
    assert done == TrainingProgress(2, {0: 0.1, 2: 0.1 + 0.2}) and done.best_step == 0
    take_step(other, 7)
    ours, theirs = one.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_files_that_are_no_state_change_nothing(tmp_path):
    run = trained(tmp_path, 0, steps=0)
    before = {name: value.clone() for name, value in run.tensors().items()}
    cut, flipped, smaller = tmp_path / "cut", tmp_path / "flipped", tmp_path / "smaller"
    trained(cut, 1).save(TrainingProgress(2))
    (file,) = cut.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])
    trained(flipped, 1).save(TrainingProgress(2))
    (file,) = flipped.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1  # in a tensor: the file can be read
    file.write_bytes(content)
    trained(smaller, 1, layers=1).save(TrainingProgress(2))
    for folder in (tmp_path / "absent", cut, flipped, smaller):
        assert replace(run, store=Store(folder)).load() is None
        now = run.tensors()
        assert now.keys() >= before.keys() and all(torch.equal(now[name], before[name]) for name in before)
