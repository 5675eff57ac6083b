"""Uptraining on a pretended GPU: products of 16 bits with float32 results, one wait a step, and memory that may run out."""

import pytest
import torch

from puzzledsl.models.errors import OutOfMemory
from puzzledsl.uptrain import run
from tests.interrupting import Recorder
from tests.pretended_gpu import Gpu
from tests.refused import refused
from tests.uptrain.cases import Case, make_case, trainer_of, with_uptrain
from tests.uptrain.cases import run as train_case
from tests.uptrain.test_train import EVERY

GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("gpu"))


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_step_waits_once_whatever_its_micro_batches(
    case, tmp_path, pretended: Gpu, micro_batch: int
) -> None:
    trainer = trainer_of(case, tmp_path, EVERY, "cuda", dtype="bf16", micro_batch=micro_batch)
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
    trainer = trainer_of(case, tmp_path, EVERY, "cuda", micro_batch=micro_batch, recompute=recompute)

    def fill_the_memory(*of: object) -> None:
        raise torch.OutOfMemoryError("all of it")

    monkeypatch.setattr(trainer, "_backward", fill_the_memory)
    problem = refused(trainer.step, 0)
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
