"""Curvature of linear maps inside a module, as Kronecker products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from puzzledsl.pieces.initialise import gauss_newton as kronecker
from puzzledsl.pieces.initialise.gauss_newton import curvatures, downhill


class Gated(nn.Module):
    """Two maps that read one input, and one behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(*size, bias=False) for size in ((6, 5), (6, 4), (9, 3)))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.down(torch.cat([self.gate(x), self.up(x)], -1))
        return made


def maps_of(module: nn.Module) -> list[nn.Linear]:
    return [linear for linear in module.modules() if isinstance(linear, nn.Linear)]


def test_one_map_s_newton_step_is_its_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual is linear in one map, so its curvature is the Hessian: a step lands on the optimum, but for probes' noise."""
    monkeypatch.setattr(kronecker, "DAMPING", 1e-6)
    torch.manual_seed(0)
    x, linear, wanted = (
        torch.randn(4000, 6) * torch.arange(1.0, 7),
        nn.Linear(6, 3, bias=False),
        torch.randn(3, 6),
    )
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
    monkeypatch.setattr(kronecker, "STACKED_OUTPUTS", 8)
    assert [c.maps for c in curvatures(maps_of(module), module, [x])] == [(0,), (1,), (2,)]


def test_nothing_is_left_behind() -> None:
    module, x = Gated(), torch.randn(50, 6)
    before = [linear.weight.detach().clone() for linear in maps_of(module)]
    first = curvatures(maps_of(module), module, [x[:25], x[25:]])
    again = curvatures(maps_of(module), module, [x[:25], x[25:]])
    for linear, weight in zip(maps_of(module), before, strict=True):
        assert linear.weight.grad is None
        assert torch.equal(linear.weight, weight)
        assert not linear._forward_hooks
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.outputs, other.outputs), "probes are seeded"


def test_an_input_that_is_always_zero() -> None:
    linear = nn.Linear(3, 2, bias=False)
    found = curvatures([linear], linear, [torch.zeros(10, 3)])
    assert all(bool(step.isfinite().all()) for step in downhill(found, [torch.ones(2, 3)]))
