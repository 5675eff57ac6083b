"""Nonlinear least squares on all maps of a module, and their curvature as Kronecker products."""

import copy

import pytest
import torch
from torch import Tensor, nn

from puzzledsl.pieces.initialise import gauss_newton
from puzzledsl.pieces.initialise.gauss_newton import Fit, curvatures, downhill

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


def maps_of(module: nn.Module) -> list[nn.Linear]:
    return [linear for linear in module.modules() if isinstance(linear, nn.Linear)]


def fit_of(module: nn.Module, fitted: list[Batch], unseen: list[Batch]) -> Fit[Batch]:
    return Fit(maps_of(module), lambda batch: module(batch[0]) - batch[1], fitted, unseen)


def error(module: nn.Module, seen: list[Batch]) -> float:
    with torch.no_grad():
        return sum(float((module(x) - y).square().sum()) for x, y in seen)


@pytest.fixture
def teacher() -> Narrow:
    torch.manual_seed(1)
    return Narrow(24).requires_grad_(False)


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_ffn_comes_nearer_on_what_was_not_fitted(teacher: Narrow, seed: int) -> None:
    torch.manual_seed(seed)
    student, fitted = Narrow(12), batches(teacher, 4, seed=seed)
    elsewhere = batches(teacher, 2, seed=100 + seed)
    before = error(student, elsewhere)
    assert fit_of(student, fitted[:3], fitted[3:]).run()
    assert error(student, elsewhere) < 0.6 * before


def is_unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(module.state_dict()[name], weight) for name, weight in before.items())


def test_what_is_worse_on_unseen_batches_is_taken_back(teacher: Narrow) -> None:
    torch.manual_seed(0)
    student = Narrow(12)
    with torch.no_grad():
        opposed = [(x, 2 * student(x) - teacher(x)) for x, _ in batches(teacher, 1, seed=5)]
    before = copy.deepcopy(student.state_dict())
    assert not fit_of(student, batches(teacher, 3, seed=0), opposed).run()
    assert is_unchanged(student, before)


def test_a_point_without_a_finite_error_is_passed_over(teacher: Narrow) -> None:
    """The first point tried lies where the residual is no number; nearer ones are found."""
    torch.manual_seed(0)
    student, seen = Narrow(12), batches(teacher, 4, seed=0)
    start = [weight.detach().clone() for weight in student.parameters()]
    before = error(student, seen)

    def residual(batch: Batch) -> Tensor:
        made: Tensor = student(batch[0]) - batch[1]
        moved = [(w.detach() - s).abs().max() for w, s in zip(student.parameters(), start, strict=True)]
        return made * float("nan") if max(moved) > 0.02 else made

    assert Fit(maps_of(student), residual, seen[:3], seen[3:]).run()
    assert error(student, seen) < before


# ---------------------------------------------------------------- curvature


class Gated(nn.Module):
    """Two maps that read one input, and one behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(*size, bias=False) for size in ((6, 5), (6, 4), (9, 3)))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(torch.cat([self.gate(x), self.up(x)], -1))
        return made


def test_one_map_s_newton_step_is_its_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual is linear in one map, so its curvature is the Hessian: a step lands on the optimum, but for probes' noise."""
    monkeypatch.setattr(gauss_newton, "DAMPING", 1e-6)
    torch.manual_seed(0)
    x = torch.randn(4000, 6) * torch.arange(1.0, 7)
    linear, wanted = nn.Linear(6, 3, bias=False), torch.randn(3, 6)
    found = curvatures([linear], linear, [x])
    with torch.enable_grad():
        residual = linear(x) - x @ wanted.T
    torch.autograd.backward(residual, residual.detach() / len(x))
    gradient = linear.weight.grad
    assert gradient is not None
    step = downhill(found, [gradient])[0]
    assert torch.dist(linear.weight + step, wanted) < 0.1 * torch.dist(linear.weight, wanted)


def test_maps_of_one_input_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = Gated(), torch.randn(50, 6)
    assert [c.maps for c in curvatures(maps_of(module), module, [x])] == [(0, 1), (2,)]
    monkeypatch.setattr(gauss_newton, "STACKED_OUTPUTS", 8)
    assert [c.maps for c in curvatures(maps_of(module), module, [x])] == [(0,), (1,), (2,)]
