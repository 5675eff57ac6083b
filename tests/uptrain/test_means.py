"""Memory of an uptraining, by arithmetic: what is chosen fits, room that is left is used, and nothing is loaded before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puzzledsl.ir.nodes import Schedule, Shape, Uptrain
from puzzledsl.models import placement as this_device
from puzzledsl.models.errors import NoRoomToUptrain
from puzzledsl.plan.memory.stage_plan import Device
from puzzledsl.plan.memory.stages import UptrainSizes
from puzzledsl.uptrain import run as means
from puzzledsl.uptrain.ranks import Ranks
from puzzledsl.uptrain.run import chosen, means_for
from puzzledsl.uptrain.train import PLAIN
from tests.pieces.train.bld_programs import WHERE
from tests.refused import refused
from tests.uptrain.cases import make_case

GB = 10**9
HEADS = {"family": "llama", "kv_heads": 8, "vocab": 128256}
LLAMA_8B = Shape(layers=32, hidden=4096, heads=32, head_dim=128, intermediate=14336, tied=False, **HEADS)
LLAMA_70B = Shape(layers=80, hidden=8192, heads=64, head_dim=128, intermediate=28672, tied=False, **HEADS)


def h100(count: int, host: int = 256 * GB) -> Device:
    return Device("h100", True, 80 * GB, host, "bf16", 4e14, 3e12, count)


def sizes_of(shape: Shape) -> UptrainSizes:
    settings = {
        "kld": 1,
        "cosine": 1,
        "tokens": 10**9,
        "context": 4096,
        "batch": 64,
        "lr": Schedule(peak=1e-4),
    }
    return UptrainSizes(Uptrain(name="u", search="s", where=WHERE, **settings), shape, shape)


@pytest.mark.parametrize(
    ("shape", "gpus", "host_gb", "offload", "recompute"),
    [
        (LLAMA_8B, 1, 256, True, True),
        (LLAMA_8B, 1, 50, None, None),
        (LLAMA_8B, 8, 256, False, False),  # one block without recomputing is faster than two with it
        (LLAMA_70B, 8, 256, True, True),
        (LLAMA_70B, 64, 256, False, True),
    ],
)
def test_the_cheapest_means_that_fit_are_chosen(
    shape: Shape, gpus: int, host_gb: int, offload, recompute
) -> None:
    """More GPUs need no host; None where nothing fits."""
    found = chosen(sizes_of(shape), h100(gpus, host_gb * GB))
    assert (found and found.offload) is offload
    assert (found and found.recompute) is recompute
    assert found is None or found.recompute or found.micro_blocks == 1


def test_it_fails_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, cpu = make_case(tmp_path), torch.device("cpu")
    given = case.program.uptrains["final"], case.parent, case.child, cpu
    assert means_for(*given, Ranks()) == means_for(*given, Ranks(0, 2)) == PLAIN
    for path in (*case.parent.glob("*.safetensors"), *case.child.glob("*.safetensors")):
        path.unlink()
    free: list[int] = []
    monkeypatch.setattr(this_device, "free_bytes", lambda device: free[-1])
    free.append(300_000)
    problem = refused(means_for, *given, Ranks())
    assert problem.kind == NoRoomToUptrain and "in each of 1 processes" in problem.message
    free.append(1_500_000)
    found = means_for(*given, Ranks())
    assert found == replace(PLAIN, recompute=True), "the micro-batch, which CPUs' sums depend on, stays"


def test_the_help_says_how_many_would_do() -> None:
    """And with so many it fits."""
    sizes, device = sizes_of(LLAMA_70B), h100(1, 64 * GB)
    assert chosen(sizes, device) is None
    words = means._more(sizes, device).split()
    count = int(words[words.index("use") + 1])
    assert chosen(sizes, replace(device, count=count)) is not None
    assert chosen(sizes, replace(device, count=count // 2)) is None
