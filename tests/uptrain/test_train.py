"""Laws of a training step: what saves memory changes what is promised and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain import train
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.train import Trainer
from tests.uptrain.cases import Case, make_case, with_uptrain

IDS = torch.randint(4, 260, (24, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("train"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer_of(case: Case, work, progress=None, ids=IDS, **changes) -> Trainer:
    declaration = with_uptrain(case.program, **{"lm": 0.5, "batch": 6} | changes).uptrains["final"]
    models = Teacher(load_parent(case.parent)), Student(load_child(case.child))
    return Trainer(declaration, *models, ids, IDS[:4], work, progress or Silent())


def gradients(trainer: Trainer, monkeypatch) -> dict[str, torch.Tensor]:
    """Gradients of the first step, before clipping; nothing is changed."""
    found: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(train, "MAX_GRAD_NORM", 1e9)
    keep = dict(trainer.child.named_parameters())
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: found.update({n: w.grad.clone() for n, w in keep.items()})
    )
    trainer.step(0)
    return found


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 5])
def test_micro_batches_add_up_to_the_batch(case, tmp_path, monkeypatch, micro_batch):
    """4 and 5 do not divide the 6 blocks of the step."""
    whole = gradients(trainer_of(case, tmp_path, micro_batch=6), monkeypatch)
    parts = gradients(trainer_of(case, tmp_path, micro_batch=micro_batch), monkeypatch)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def kept_bytes(trainer: Trainer) -> int:
    """Bytes that a forward and backward pass keeps for the gradients."""
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        trainer.step(0)
    return total


def test_recomputing_gives_the_same_gradients_from_less_memory(case, tmp_path, monkeypatch):
    plain, less = (gradients(trainer_of(case, tmp_path, recompute=r), monkeypatch) for r in (False, True))
    assert plain.keys() == less.keys() and all(torch.equal(plain[name], less[name]) for name in plain)
    usual, little = (kept_bytes(trainer_of(case, tmp_path, recompute=r)) for r in (False, True))
    assert little < 0.7 * usual


def test_bfloat16_is_near_and_keeps_float32_weights(case, tmp_path, monkeypatch):
    exact = gradients(trainer_of(case, tmp_path), monkeypatch)
    trainer = trainer_of(case, tmp_path, dtype="bf16")
    near = gradients(trainer, monkeypatch)
    assert any(not torch.equal(exact[name], near[name]) for name in exact)
    one, two = (torch.cat([g.flatten() for g in found.values()]) for found in (exact, near))
    assert F.cosine_similarity(one, two, dim=0) > 0.99
    assert (
        {w.dtype for w in trainer.child.parameters()} == {g.dtype for g in near.values()} == {torch.float32}
    )


def test_training_draws_no_random_numbers(case, tmp_path):
    before = torch.get_rng_state()
    trainer_of(case, tmp_path, ids=IDS[:6]).run()
    assert torch.equal(before, torch.get_rng_state())
