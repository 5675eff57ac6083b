"""The KL divergence of two models is the plain one, in chunks too; the learning rate rises to its peak and falls to nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from puzzledsl.ir.nodes import Schedule
from puzzledsl.models.divergence import kl_divergence, learning_rate, summed_kl, warmup_steps

N, H, V = 23, 6, 31


def states_and_head(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, H, generator=g), torch.randn(V, H, generator=g)


@pytest.mark.parametrize("chunk", [{}, {"chunk": 7}, {"chunk": 1}])
def test_it_is_the_plain_sum_in_float64_and_no_more_than_a_chunk_of_logits_exists(
    chunk: dict[str, int],
) -> None:
    (h, w), (other_h, other_w) = states_and_head(0), states_and_head(1)
    log_p, log_q = ((a.double() @ b.double().T).log_softmax(-1) for a, b in ((h, w), (other_h, other_w)))
    wanted = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert torch.allclose(kl_divergence(log_p, log_q), wanted)
    seen: list[int] = []

    def logits(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return rows @ w.T

    found = summed_kl(h, other_h, logits, lambda rows: rows @ other_w.T, **chunk)
    assert found == pytest.approx(float(wanted.sum()), rel=1e-6) and found > 1
    assert max(seen) == chunk.get("chunk", N) and sum(seen) == N
    assert summed_kl(h, h, logits, logits, **chunk) == pytest.approx(0, abs=1e-6)


def rates(schedule: Schedule, steps: int) -> list[float]:
    return [learning_rate(schedule, step, steps) for step in range(steps)]


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9))
def test_cosine_rises_then_falls(steps: int, warmup: float) -> None:
    schedule = Schedule(peak=0.5, warmup=warmup)
    found, rising = rates(schedule, steps), warmup_steps(schedule, steps)
    assert min(found) > 0 and max(found) <= 0.5
    assert found[: rising + 1] == sorted(found[: rising + 1])
    assert found[rising:] == sorted(found[rising:], reverse=True)
    assert rising == steps or found[rising] == 0.5


@pytest.mark.parametrize(
    ("schedule", "steps", "first"),
    [
        (Schedule(peak=1e-4, warmup=0.05), 12, [5e-5, 1e-4]),
        (Schedule(kind="constant", peak=1.0, warmup=0.4), 10, [0.2, 0.4, 0.6, 0.8, *[1.0] * 6]),
        (Schedule(peak=2.0), 4, [2.0, 1 + math.cos(math.pi / 4), 1.0, 1 - math.cos(math.pi / 4)]),
        (
            Schedule(peak=2.0, warmup=0.2),
            10,
            [2 / 3, 4 / 3, *(1 + math.cos(i * math.pi / 8) for i in range(8))],
        ),
    ],
)
def test_rates_step_by_step(schedule: Schedule, steps: int, first: list[float]) -> None:
    assert rates(schedule, steps)[: len(first)] == pytest.approx(first)
