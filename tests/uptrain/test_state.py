"""A saved state is the whole state; anything else is refused."""

from __future__ import annotations

import torch

from puzzledsl.uptrain.state import Standing, load_state, save_state
from tests.tiny import tiny_model, tiny_tokens


def trained(seed: int, steps: int = 2):
    model = tiny_model(seed=seed, tied=True).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for step in range(steps):
        take_step(model, optimizer, step)
    return model, optimizer


def take_step(model, optimizer, step):
    model(tiny_tokens(seed=step)).logits.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_going_on_from_a_file_is_going_on(tmp_path):
    model, optimizer = trained(0)
    save_state(tmp_path / "s.safetensors", model, optimizer, Standing(2, {0: 0.1, 2: 0.1 + 0.2}))
    other, other_optimizer = trained(5, steps=0)
    standing = load_state(tmp_path / "s.safetensors", other, other_optimizer)
    assert standing == Standing(2, {0: 0.1, 2: 0.1 + 0.2}) and standing.best_step == 0
    for pair in ((model, optimizer), (other, other_optimizer)):
        take_step(*pair, 7)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_files_that_are_no_state_change_nothing(tmp_path):
    model, optimizer = trained(0, steps=0)
    before = [weight.clone() for weight in model.parameters()]
    cut, smaller = tmp_path / "cut.safetensors", tmp_path / "smaller.safetensors"
    save_state(cut, *trained(1), Standing(2))
    cut.write_bytes(cut.read_bytes()[:-1000])
    small = tiny_model(layers=1).requires_grad_(True)
    save_state(smaller, small, torch.optim.AdamW(small.parameters()), Standing(2))
    for path in (tmp_path / "absent.safetensors", cut, smaller):
        assert load_state(path, model, optimizer) is None
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
