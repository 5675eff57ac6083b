"""Nonlinear least squares on all maps of a module."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from puzzledsl.pieces.initialise.gauss_newton import Fit

Batch = tuple[Tensor, Tensor]


class Narrow(nn.Module):
    """An FFN as parents have them."""

    def __init__(self, width: int, hidden: int = 8) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(hidden, width, bias=False), nn.Linear(hidden, width, bias=False)
        self.down = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))
        return made


def batches(teacher: nn.Module, count: int, seed: int, rows: int = 200) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(rows, 8, generator=generator) for _ in range(count)]
    with torch.no_grad():
        return [(x, teacher(x)) for x in inputs]


def fit_of(module: nn.Module, fitted: list[Batch], unseen: list[Batch]) -> Fit[Batch]:
    linears = [linear for linear in module.modules() if isinstance(linear, nn.Linear)]
    return Fit(linears, lambda batch: module(batch[0]) - batch[1], fitted, unseen)


def error(module: nn.Module, seen: list[Batch]) -> float:
    with torch.no_grad():
        return sum(float((module(x) - y).square().sum()) for x, y in seen)


@pytest.fixture
def teacher() -> Narrow:
    torch.manual_seed(1)
    return Narrow(24).requires_grad_(False)


def test_a_linear_map_s_optimum_is_found_within_a_few_points() -> None:
    torch.manual_seed(0)
    wanted, found = nn.Linear(8, 3, bias=False).requires_grad_(False), nn.Linear(8, 3, bias=False)
    seen = batches(wanted, 3, seed=0)
    before = error(found, seen)
    assert fit_of(found, seen[:2], seen[2:]).run(8)
    assert error(found, seen) < 1e-6 * before


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_ffn_comes_nearer_on_what_was_not_fitted(teacher: Narrow, seed: int) -> None:
    torch.manual_seed(seed)
    student, fitted = Narrow(12), batches(teacher, 4, seed=seed)
    elsewhere = batches(teacher, 2, seed=100 + seed)
    before = error(student, elsewhere)
    assert fit_of(student, fitted[:3], fitted[3:]).run()
    assert error(student, elsewhere) < 0.6 * before


def test_what_is_worse_on_unseen_batches_is_taken_back(teacher: Narrow) -> None:
    torch.manual_seed(0)
    student = Narrow(12)
    with torch.no_grad():
        opposed = [(x, 2 * student(x) - teacher(x)) for x, _ in batches(teacher, 1, seed=5)]
    before = copy.deepcopy(student.state_dict())
    assert not fit_of(student, batches(teacher, 3, seed=0), opposed).run()
    assert all(torch.equal(student.state_dict()[name], weight) for name, weight in before.items())


def test_a_perfect_student_stays_as_it_is(teacher: Narrow) -> None:
    student = copy.deepcopy(teacher).requires_grad_(True)
    seen = batches(teacher, 3, seed=0)
    assert not fit_of(student, seen[:2], seen[2:]).run()
    for name, weight in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], weight)


def test_the_same_input_gives_the_same_bytes(teacher: Narrow) -> None:
    torch.manual_seed(0)
    one = Narrow(12)
    other = copy.deepcopy(one)
    seen = batches(teacher, 4, seed=0)
    for student in (one, other):
        fit_of(student, seen[:3], seen[3:]).run()
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_a_point_without_a_finite_error_is_passed_over(teacher: Narrow) -> None:
    """The first point tried lies where the residual is no number; nearer ones are found."""
    torch.manual_seed(0)
    student, seen = Narrow(12), batches(teacher, 4, seed=0)
    start = [weight.detach().clone() for weight in student.parameters()]
    before = error(student, seen)

    def residual(batch: Batch) -> Tensor:
        made: Tensor = student(batch[0]) - batch[1]
        moved = max(
            float((w.detach() - s).abs().max()) for w, s in zip(student.parameters(), start, strict=True)
        )
        return made * float("nan") if moved > 0.02 and first else made

    first = True
    linears = [linear for linear in student.modules() if isinstance(linear, nn.Linear)]
    assert Fit(linears, residual, seen[:3], seen[3:]).run()
    first = False
    assert error(student, seen) < before
