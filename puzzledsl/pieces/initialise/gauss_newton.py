"""Nonlinear least squares over all weights of a piece, started by least squares on its last map.

A Gauss-Newton step minimises the error as if the residual were linear in the weights. Here the step is taken in the span of the
points tried so far, whose residuals are known, so that it needs only inner products. The next point is tried from there, along
the gradient preconditioned by the curvature. For a linear residual this is the conjugate gradient method; in general it is
nonlinear GMRES (Washio and Oosterlee, ETNA 6, 1997), related to Anderson mixing. The curvature is one Kronecker product per
input (K-FAC, arXiv 1503.05671): if y = W x is part of a module whose output z is fitted, the Gauss-Newton matrix of W is
approximately E[x x'] (x) E[g g'] for gradients g of y.

A point costs one forward and backward pass over the fitted batches. All is float32 except sums of squares and products: float64.

Shapes: P inputs and Q outputs of linear maps.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.plan.flop import CURVED_SHARE, POINTS

DAMPING = 0.5
"""Damping of each factor: added to its diagonal, relative to the diagonal's mean.

From 0.3 to 1 a small Llama's pieces are fitted equally well. With less, no step improves SmolLM2's attention, whose
inputs have a few channels with huge values.
"""
STACKED_OUTPUTS = 16384
"""Largest number of outputs of stacked maps; above it each map has a separate curvature, because inversion is cubic."""
B = TypeVar("B")
Seen = dict[int, tuple[Tensor, Tensor]]
"""Map index -> its input on a batch, and the probe's gradient at its output."""


@dataclass(frozen=True)
class Curvature:
    """The inverse curvature of the stacked maps `maps`: E[x x']^-1 (P, P) and E[g g']^-1 (Q, Q), float32."""

    maps: tuple[int, ...]
    inputs: Tensor
    outputs: Tensor


def curvatures(
    linears: Sequence[nn.Linear], run: Callable[[B], Tensor], batches: Iterable[B]
) -> list[Curvature]:
    """Return the curvatures of maps inside `run`, by a forward and a backward pass of a seeded random probe on each batch."""
    seen: Seen = {}
    grams: dict[tuple[int, ...], tuple[Gram, Gram]] = {}
    hooks = [linear.register_forward_hook(_observer(at, seen)) for at, linear in enumerate(linears)]
    device = linears[0].weight.device
    generator = torch.Generator(device).manual_seed(0)
    try:
        for batch in batches:
            with torch.enable_grad():
                fitted = run(batch)
            probe = torch.randn(fitted.shape, generator=generator, device=device).to(fitted.dtype)
            torch.autograd.backward(fitted, probe)
            _count(seen, grams)
    finally:
        for hook in hooks:
            hook.remove()
        for linear in linears:
            linear.weight.grad = None
    return [Curvature(maps, _inverse(x), _inverse(g)) for maps, (x, g) in grams.items()]


def downhill(curvatures: Iterable[Curvature], gradient: Sequence[Tensor]) -> list[Tensor]:
    """Return minus the inverse curvature times the gradient, for each map (Q, P)."""
    found: dict[int, Tensor] = {}
    for curvature in curvatures:
        stacked = torch.cat([gradient[at] for at in curvature.maps])
        steps = (curvature.outputs @ stacked @ curvature.inputs).neg_()
        sizes = [len(gradient[at]) for at in curvature.maps]
        found |= zip(curvature.maps, torch.split(steps, sizes), strict=True)
    return [found[at] for at in range(len(gradient))]


def _observer(at: int, seen: Seen) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def observe(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        def note(slope: Tensor) -> None:
            seen[at] = args[0], slope

        output.register_hook(note)  # type: ignore[no-untyped-call]

    return observe


def _count(seen: Seen, grams: dict[tuple[int, ...], tuple[Gram, Gram]]) -> None:
    for maps in _stacks(seen):
        x = seen[maps[0]][0]
        slopes = torch.cat([seen[at][1] for at in maps], -1)
        key = tuple(maps)
        if key not in grams:
            grams[key] = (Gram.zeros(x.shape[-1], 0, x.device), Gram.zeros(slopes.shape[-1], 0, x.device))
        grams[key][0].add(x)
        grams[key][1].add(slopes)
    seen.clear()


def _stacks(seen: Seen) -> Iterable[list[int]]:
    """Yield the maps that read the same tensor: together if their outputs are at most STACKED_OUTPUTS, else one by one."""
    by_input: dict[int, list[int]] = {}
    for at in sorted(seen):
        by_input.setdefault(id(seen[at][0]), []).append(at)
    for maps in by_input.values():
        together = sum(seen[at][1].shape[-1] for at in maps) <= STACKED_OUTPUTS
        yield from [maps] if together else [[at] for at in maps]


def _inverse(gram: Gram) -> Tensor:
    mean = gram.xx / max(gram.tokens, 1)
    scale = mean.diagonal().mean().clamp_min(1e-30)
    damped = mean + DAMPING * scale * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).float()


REMEMBERED = 4
"""Number of recent points whose span the next step is taken in."""
PROBE, LEAST_REACH, LONGEST_REACH = 0.01, 0.001, 2.0
"""Step lengths along the preconditioned gradient: the probe that sets the first one, and the bounds of all of them."""
MISSES = 2
"""Consecutive steps without improvement on the unseen batches after which the fit stops."""
CHANGE = 3.0
"""Largest factor between lengths of successive steps that are taken, and largest share of the newest point in a step."""
RESOLVED = 1e-6
"""Relative damping of the small system: treats directions that differ by less as one."""

Weights = list[Tensor]
"""One tensor for each map."""


@dataclass(frozen=True)
class Point:
    """Weights with their residuals (a tensor per batch), the gradient of half the mean square, and the sum of squares."""

    weights: Weights
    residual: list[Tensor]
    gradient: Weights
    square: float


@dataclass
class Fit(Generic[B]):
    """Fit of `linears` that lowers the square of `residual(batch)`, output minus target, on `fitted`; `unseen` picks the best."""

    linears: Sequence[nn.Linear]
    residual: Callable[[B], Tensor]
    fitted: Sequence[B]
    unseen: Sequence[B]
    _curvatures: list[Curvature] = field(init=False)

    def run(self, points: int = POINTS) -> bool:
        """Fit with at most `points` steps. Return False, weights unchanged, if none improves on the unseen batches."""
        with repeatable(self.linears[0].weight.device):
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
        """Yield the weights after each Gauss-Newton step."""
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
        """Return the step length that minimises the first batch's error if its residual is linear, within the bounds."""
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
        weights_of = [linear.weight for linear in self.linears]
        gradient = [(torch.zeros_like(w) if w.grad is None else w.grad) / rows for w in weights_of]
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
    """Return shares of the points, of sum 1, that minimise the mixed residual's square; the newest's is at most CHANGE."""
    effects = [[b - a for a, b in zip(known[0].residual, point.residual, strict=True)] for point in known[1:]]
    sums = [[_sum(a, b) for b in (*effects, known[0].residual)] for a in effects]
    read = torch.stack([each for row in sums for each in row]).cpu().view(len(effects), -1)
    square, slope = read[:, :-1].clone(), read[:, -1]
    square += RESOLVED * torch.diag(square.diagonal())
    older: list[float] = (-torch.linalg.pinv(square, hermitian=True) @ slope).tolist()
    newest = 1 - sum(older)
    if newest > CHANGE:  # far beyond what was tried, where the residual may be anything
        older = [(CHANGE - 1) / (newest - 1) * share for share in older]
    return [1 - sum(older), *older]


def _mixed(shares: Sequence[float], points: Sequence[Weights]) -> Weights:
    """Return sum_i share_i * point_i for each map."""
    found = []
    for tensors in zip(*points, strict=True):
        mixed = shares[0] * tensors[0]
        for share, tensor in zip(shares[1:], tensors[1:], strict=True):
            mixed.add_(tensor, alpha=share)
        found.append(mixed)
    return found


def _sum(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product over all batches, a float64 scalar on their device."""
    total = torch.zeros((), dtype=torch.float64, device=left[0].device)
    for a, b in zip(left, right, strict=True):
        total += torch.dot(a.flatten(), b.flatten())
    return total


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return float(_sum(left, right))
