"""AdamW with moments of 8 bits: near the exact one, in a quarter of its memory, and saved to the bit."""

from __future__ import annotations

import pytest
import torch

from puzzledsl.uptrain.optimizer import adamw, make_moments, set_rate
from puzzledsl.uptrain.ranks import Ranks
from puzzledsl.uptrain.state import TrainingProgress, TrainingState, load_state, save_state
from puzzledsl.uptrain.store import FileStore
from tests.tiny import tiny_model, tiny_tokens

SIZES = {"layers": 1, "hidden": 64, "heads": 4, "head_dim": 16, "intermediate": 128}


def trained(steps: int, *, eight_bit: bool, seed: int = 0) -> TrainingState:
    model = tiny_model(seed=seed, **SIZES).requires_grad_(True)
    run = TrainingState(model, adamw(model, 1e-3, eight_bit=eight_bit), Ranks())
    for step in range(steps):
        take_step(run, step)
    return run


def take_step(run: TrainingState, step: int) -> None:
    run.model(tiny_tokens(seed=step)).logits.square().mean().backward()
    set_rate(run.optimizer, 1e-3 / (1 + step))
    run.optimizer.step()
    run.optimizer.zero_grad()


def test_rates_and_moments_of_the_exact_one() -> None:
    run = trained(0, eight_bit=False)
    set_rate(run.optimizer, 0.25)
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.25]
    make_moments(run.optimizer, [*run.model.parameters()])
    assert {name.partition("/")[0] for name in run.tensors()} == {
        "weight",
        "exp_avg",
        "exp_avg_sq",
        "step",
        "random",
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of this and that
def test_eight_bits(tmp_path) -> None:
    pytest.importorskip("torchao")
    exact, near = (trained(4, eight_bit=bits) for bits in (False, True))
    moments = [
        sum(v.nbytes for n, v in run.tensors().items() if n.startswith("exp_avg")) for run in (exact, near)
    ]
    assert moments[1] < 0.7 * moments[0], "a quarter for the layers, the same for the embedding"
    start = trained(0, eight_bit=False).model.state_dict()
    for (name, one), two in zip(exact.model.named_parameters(), near.model.parameters(), strict=True):
        moved = (one - start[name]).norm()
        assert moved > 0 and (one - two).norm() < 0.1 * moved, name

    save_state(FileStore(tmp_path), near, TrainingProgress(4, {0: 1.0}))
    other = trained(0, eight_bit=True, seed=5)
    assert load_state(FileStore(tmp_path), other) == TrainingProgress(4, {0: 1.0})
    for run in (near, other):
        take_step(run, 7)
    ours, theirs = near.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and any("codes" in name for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("random"))
