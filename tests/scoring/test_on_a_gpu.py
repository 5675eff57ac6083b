"""Scores on a GPU are those of a CPU: float32 logits, no position cut off at 0, large tiles."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.scoring.measures import Divergence
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.scoring.cases import Case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Pieces that were made on a CPU."""
    attention, ffn = (ParentAttention(), GqaAttention(kv_heads=1)), (ParentFfn(), MlpFfn(width=24), NoOpFfn())
    return Case.of(tmp_path_factory.mktemp("gpu"), attention=attention, ffn=ffn, model={"layers": 3})


def singles(table: Any) -> list[float]:
    return [value for layer in (*table.attention, *table.ffn) for value in layer.values()]


@pytest.mark.parametrize(("capability", "close"), [((7, 0), 1e-4), ((9, 0), 0.1)])
def test_scores_come_back_from_the_gpu(case: Case, capability: tuple[int, int], close: float):
    method = {"metric": "kl_divergence", "samples": 48}
    here = case.anew(**method)
    with pretended_gpu(capability=capability) as gpu:
        there = case.anew(**method)
        assert gpu.waits_in("scoring/measures.py").total() < 60
    assert singles(there) == pytest.approx(singles(here), rel=close, abs=1e-3)


def test_small_changes_are_not_lost_to_rounding(pretended: Gpu):
    """In bfloat16, logits of a few nats are rounded to hundredths, and KLs of a thousandth to anything."""
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(2048, 32, generator=generator).mul(0.5).bfloat16()
    parent = torch.randn(2, 64, 32, generator=generator).bfloat16()
    child = (parent.float() + 0.02 * torch.randn(2, 64, 32, generator=generator)).bfloat16()
    log_p, log_q = (F.log_softmax(states.double() @ head.double().T, -1) for states in (parent, child))
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).flatten()
    runner: Any = SimpleNamespace(head_weights=lambda: (head.to("cuda"), None), device=torch.device("cuda"))
    measure = Divergence(runner, torch.randint(0, 2048, (2, 64)), 128)
    measure.set_parent([parent.to("cuda")])
    kl = measure.figures([child.to("cuda")])["kl_divergence"]
    assert abs(kl - float(expected.mean())) < 2e-6 < float(expected.mean()) / 100
    assert set(+pretended.flop) >= {torch.bfloat16}
