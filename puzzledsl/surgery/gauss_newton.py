"""Nonlinear least squares: all weights of a piece together, where least squares on its last map alone has started it.

A Gauss-Newton step minimises the error as if the residual were linear in the weights. Here it is taken in the span of the
points tried so far, whose residuals are known, so that it costs nothing but inner products; then the next point is tried
from there, along the gradient, preconditioned by curvature (`kronecker`). For a linear residual that is the method of
conjugate gradients; in general it is nonlinear GMRES (Washio and Oosterlee, ETNA 6, 1997), kin of Anderson's mixing.

A point is one pass there and back over the batches that are fitted. All is float32 but sums over batches, which are float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from puzzledsl.plan.refinement import CURVED_SHARE, POINTS
from puzzledsl.surgery.kronecker import Curvature, curvatures, downhill

REMEMBERED = 4
"""Points in whose span the next step is taken."""
PROBE, LEAST_REACH, LONGEST_REACH = 0.01, 0.001, 2.0
"""How far along the preconditioned gradient points are tried: the first where a look at so small a distance says, the next as
far as the last one should have gone."""
MISSES = 2
"""Steps in a row, none better on unseen batches than the best before, that are the last."""
CHANGE = 3.0
"""At most so many times farther, or nearer, than the last one; and so far does a step go beyond it."""
RESOLVED = 1e-6
"""Relative damping of the small problem: directions that differ by less are one."""

B = TypeVar("B")
Weights = list[Tensor]
"""A tensor for each map."""


@dataclass(frozen=True)
class Point:
    """Weights, and what is known there: the residual, a tensor a batch, half its mean square's gradient, its square."""

    weights: Weights
    residual: list[Tensor]
    gradient: Weights
    square: float


@dataclass
class Fit(Generic[B]):
    """`residual` says, of a batch, what the piece makes minus what it should make; the weights of `linears` are fitted.

    `unseen` are batches that are not fitted: they judge the outcome.
    """

    linears: Sequence[nn.Linear]
    residual: Callable[[B], Tensor]
    fitted: Sequence[B]
    unseen: Sequence[B]
    _curvatures: list[Curvature] = field(init=False)

    def run(self, points: int = POINTS) -> bool:
        """Change the weights. False: nothing was better on unseen batches, and they are as they were, bit for bit."""
        curved = self.fitted[: math.ceil(CURVED_SHARE * len(self.fitted))]
        self._curvatures = curvatures(self.linears, self.residual, curved)
        start = best = self._weights()
        least, misses = self._unseen_square(), 0
        for weights in itertools.islice(self._steps(), points):
            self._set(weights)
            if (square := self._unseen_square()) < least:
                best, least, misses = weights, square, 0
            elif (misses := misses + 1) == MISSES:
                break  # what comes next fits the fitted batches alone
        self._set(best)
        return best is not start

    def _steps(self) -> Iterator[Weights]:
        """Where each Gauss-Newton step lands."""
        known = [self._at(self._weights())]
        weights, gradient = known[0].weights, known[0].gradient
        step = downhill(self._curvatures, gradient)
        reach = self._reach(known[0], step)
        while reach >= LEAST_REACH:
            tried = self._at([w + reach * s for w, s in zip(weights, step, strict=True)])
            if not math.isfinite(tried.square):
                reach /= CHANGE**2
                continue
            known = [tried, *known][:REMEMBERED]
            shares = _shares(known)
            weights = _mixed(shares, [point.weights for point in known])
            gradient = _mixed(shares, [point.gradient for point in known])
            farther = min(max(shares[0], 1 / CHANGE), CHANGE)
            reach = min(max(reach * farther, LEAST_REACH), LONGEST_REACH)
            step = downhill(self._curvatures, gradient)
            yield weights

    def _reach(self, start: Point, step: Weights) -> float:
        """How far along a step the first batch's error is least, if its residual is linear."""
        self._set([w + PROBE * s for w, s in zip(start.weights, step, strict=True)])
        with torch.no_grad():
            there = self.residual(self.fitted[0])
        self._set(start.weights)
        residual = start.residual[0]
        effect = (there - residual) / PROBE
        slope, square = _dot([effect], [residual]), _dot([effect], [effect])
        return min(max(-slope / square, LEAST_REACH), LONGEST_REACH) if square > 0 else LEAST_REACH

    def _at(self, weights: Weights) -> Point:
        self._set(weights)
        rows, residuals = 0, []
        for batch in self.fitted:
            with torch.enable_grad():
                residual = self.residual(batch)
            torch.autograd.backward(residual, residual.detach())
            residuals.append(residual.detach())
            rows += residual.shape[:-1].numel()
        gradient = [_gradient(linear.weight) / rows for linear in self.linears]
        for linear in self.linears:
            linear.weight.grad = None
        return Point(weights, residuals, gradient, _dot(residuals, residuals))

    def _unseen_square(self) -> float:
        with torch.no_grad():
            residuals = [self.residual(batch) for batch in self.unseen]
        return _dot(residuals, residuals)

    def _weights(self) -> Weights:
        return [linear.weight.detach().clone() for linear in self.linears]

    def _set(self, weights: Weights) -> None:
        with torch.no_grad():
            for linear, weight in zip(self.linears, weights, strict=True):
                linear.weight.copy_(weight)


def _shares(known: Sequence[Point]) -> list[float]:
    """Shares of the points, 1 in all, that minimise the mixed residual's square."""
    effects = [[b - a for a, b in zip(known[0].residual, point.residual, strict=True)] for point in known[1:]]
    square = torch.tensor([[_dot(a, b) for b in effects] for a in effects], dtype=torch.float64)
    slope = torch.tensor([_dot(a, known[0].residual) for a in effects], dtype=torch.float64)
    square += RESOLVED * torch.diag(square.diagonal())
    older: list[float] = (-torch.linalg.pinv(square, hermitian=True) @ slope).tolist()
    newest = 1 - sum(older)
    if newest > CHANGE:  # far beyond what was tried, where the residual may be anything
        older = [(CHANGE - 1) / (newest - 1) * share for share in older]
    return [1 - sum(older), *older]


def _mixed(shares: Sequence[float], points: Sequence[Weights]) -> Weights:
    """sum_i share_i * point_i, for each map."""
    found = []
    for tensors in zip(*points, strict=True):
        mixed = shares[0] * tensors[0]
        for share, tensor in zip(shares[1:], tensors[1:], strict=True):
            mixed.add_(tensor, alpha=share)
        found.append(mixed)
    return found


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum(float(torch.dot(a.flatten(), b.flatten())) for a, b in zip(left, right, strict=True))
