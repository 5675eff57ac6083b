"""Uptraining on a pretended GPU: products of 16 bits with float32 results, one wait a step, and memory that may run out."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models.errors import OutOfMemory
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.uptrain import run
from puzzledsl.uptrain.model import logit_loss
from tests.pretended_gpu import Gpu
from tests.uptrain.cases import Case, Recorder, make_case, trainer_of, with_uptrain
from tests.uptrain.cases import run as train_case
from tests.uptrain.test_train import IDS

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("gpu"))


def test_factors_of_the_head_have_16_bits_and_logits_32(pretended: Gpu, monkeypatch) -> None:
    """Autocast is off inside the loss: its dtype is asked for before."""
    seen: Counter[tuple[torch.dtype, torch.dtype]] = Counter()
    real = float32_products.product

    def spied(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen[one.dtype, other.dtype] += 1
        found = real(one, other)
        assert found.dtype == torch.float32
        return found

    monkeypatch.setattr(float32_products, "product", spied)
    states, head = torch.randn(6, 8, device=GPU), torch.randn(20, 8, device=GPU).requires_grad_()
    labels = torch.arange(6, device=GPU)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        logit_loss(states.clone().requires_grad_(), head, states, head.detach(), labels, kld=1, lm=1)
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)} and seen.total() == 3
    seen.clear()
    logit_loss(states.clone().requires_grad_(), head, states, head.detach(), labels, kld=1, lm=1)
    assert set(seen) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_step_waits_once_whatever_its_micro_batches(
    case, tmp_path, pretended: Gpu, micro_batch: int
) -> None:
    trainer = trainer_of(case, tmp_path, IDS, "cuda", dtype="bf16", micro_batch=micro_batch)
    trainer.step(0)
    pretended.waits.clear()
    trainer.step(1)
    assert sum(pretended.waits_in("uptrain/").values()) == 1, pretended.waits
    assert pretended.waits.total() == 1, pretended.waits


@pytest.mark.parametrize(
    ("micro_batch", "recompute", "cure"),
    [(6, False, "`micro_batch = 3`"), (1, False, "recompute = true"), (1, True, "more processes")],
)
def test_out_of_memory_it_says_what_takes_less(
    case, tmp_path, pretended: Gpu, monkeypatch, micro_batch: int, recompute: bool, cure: str
) -> None:
    trainer = trainer_of(case, tmp_path, IDS, "cuda", micro_batch=micro_batch, recompute=recompute)

    def fill_the_memory(*of: object) -> None:
        raise torch.OutOfMemoryError("all of it")

    monkeypatch.setattr(trainer, "_backward", fill_the_memory)
    with pytest.raises(DiagnosticError) as caught:
        trainer.step(0)
    [problem] = caught.value.diagnostics
    assert problem.kind == OutOfMemory and cure in problem.help


def test_it_trains_as_a_cpu_does(case, tmp_path, pretended: Gpu, monkeypatch) -> None:
    dtypes, real = [], run.Trainer

    class Spy(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            dtypes.append(self.teacher.model.dtype)

    monkeypatch.setattr(run, "Trainer", Spy)
    program = with_uptrain(case.program, dtype="bf16")
    progress = Recorder()
    train_case(case, tmp_path / "out", tmp_path / "work", progress, program)
    assert dtypes == [torch.bfloat16]
    kls = [entry["kl"] for entry in progress.named("uptrain_heldout")]
    assert min(kls) < 0.9 * kls[0] and (tmp_path / "out" / "model.safetensors").exists()
