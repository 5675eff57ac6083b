"""Least-squares fit of a sub-block's last linear map to what brings the child's stream back to the parent's.

A sub-block should add two things: what the parent adds between the same two points of its stream (`added`), and the distance of
the child's stream from the parent's where the sub-block reads (`drift`). Each is fitted by ridge regression towards the weights
that the map has. Tokens are weighted by the inverse square of the parent's stream, because the next norm divides by it: without
weights a few tokens with massive activations are all that is fitted. Held-out tokens say what share of each of the two steps is
taken, so that a step which calibration tokens do not support is left out.

Shapes: B sequences, S positions, T tokens, H hidden, P inputs of the last map, Q = 2 H outputs, K the two steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from puzzledsl.healing.layer import ChildSubBlock
from puzzledsl.surgery.grams import Gram, solve_ridge

SMALLEST_STREAM = 1e-6
"""Added to the mean square of a stream before its inverse is taken."""
RIDGE_TOKENS = 3.0
"""Ridge times tokens a free input, relative to the mean diagonal. Less than initialisers take (`grams.TOWARDS_START`), because
held-out tokens shorten steps. KL of SmolLM2 without layers 12-17, on 4,096 tokens, is .493, .490 and .501 with 2, 3 and 5."""
JOINED_TOKENS = 4096
"""Tokens whose products are added up together."""
SINGLE_PRECISION_TOKENS = 1 << 15
"""Up to so many the equations are solved in float32. A ridge of RIDGE_TOKENS * P / T of the mean diagonal bounds their condition
number by T / RIDGE_TOKENS, so that rounding is a thousandth of the step at most."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A group of sequences at one sub-block: what its last map reads [B, S, P], and three points of streams [B, S, H]."""

    read: Tensor
    child: Tensor
    parent: Tensor
    goal: Tensor

    def weight(self) -> Tensor:
        """Weights of tokens in sums of products, as a factor of both sides, [B, S, 1]."""
        return self.goal.float().square().mean(-1, keepdim=True).add(SMALLEST_STREAM).rsqrt()

    def added(self) -> Tensor:
        """Change of the parent's stream between the two points."""
        return self.goal.float() - self.parent.float()

    def drift(self) -> Tensor:
        """Distance of the child's stream from the parent's."""
        return self.parent.float() - self.child.float()


@torch.no_grad()
def fit_last(
    sub_block: ChildSubBlock, calibration: Iterable[Seen], held_out: Iterable[Seen]
) -> tuple[float, float]:
    """Fit the last map in place; its bias stays. Returns the shares of the two steps that were taken."""
    steps_KPH = _steps(sub_block, calibration)
    shares = choose_shares(sub_block, steps_KPH, held_out)
    step_PH = shares[0] * steps_KPH[0] + shares[1] * steps_KPH[1]
    weight = sub_block.last.weight
    weight.copy_((weight.T.to(step_PH) + step_PH).T.to(weight))
    return shares


def _steps(sub_block: ChildSubBlock, calibration: Iterable[Seen]) -> Sequence[Tensor]:
    """Changes of the map [P, H]: towards what it should add, and against the drift."""
    last = sub_block.last
    gram = Gram.zeros(last.in_features, 2 * last.out_features, last.weight.device)
    for read_TP, wanted_TQ in _joined(_weighted(sub_block, seen) for seen in calibration):
        gram.add(read_TP, wanted_TQ)
    xx, xy = gram.xx, gram.xy
    if gram.tokens <= SINGLE_PRECISION_TOKENS:
        xx, xy = xx.float(), xy.float()
    step = solve_ridge(xx, xy, relative=gram.ridge(RIDGE_TOKENS))
    return torch.split(step, last.out_features, dim=1)


def _weighted(sub_block: ChildSubBlock, seen: Seen) -> tuple[Tensor, Tensor]:
    """Both sides of the regression, [T, P] and [T, Q]."""
    missing = seen.added() - sub_block.adds(seen.read).float()
    weight = seen.weight()
    wanted = torch.cat([missing, seen.drift()], -1)
    return (seen.read.float() * weight).flatten(0, 1), (wanted * weight).flatten(0, 1)


def _joined(parts: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of JOINED_TOKENS or more: sums of products of few tokens are mostly additions."""
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for x, y in parts:
        xs.append(x)
        ys.append(y)
        if sum(map(len, xs)) >= JOINED_TOKENS:
            yield torch.cat(xs), torch.cat(ys)
            xs, ys = [], []
    if xs:
        yield torch.cat(xs), torch.cat(ys)


def choose_shares(
    sub_block: ChildSubBlock, steps_KPH: Sequence[Tensor], held_out: Iterable[Seen]
) -> tuple[float, float]:
    """Shares of the two steps, from 0 to 1, that bring held-out tokens nearest to the goal."""
    square_KK = torch.zeros(2, 2, dtype=torch.float64)
    product_K = torch.zeros(2, dtype=torch.float64)
    for seen in held_out:
        weight = seen.weight()
        missing = (seen.added() + seen.drift() - sub_block.adds(seen.read).float()) * weight
        moved = [(seen.read.float() @ step.float()) * weight for step in steps_KPH]
        for row, one in enumerate(moved):
            product_K[row] += float((one * missing).sum(dtype=torch.float64))
            for column, other in enumerate(moved):
                square_KK[row, column] += float((one * other).sum(dtype=torch.float64))
    return least_in_box(square_KK, product_K)


def least_in_box(square_KK: Tensor, product_K: Tensor) -> tuple[float, float]:
    """argmin of x'Ax / 2 - b'x over 0 <= x <= 1, for positive semidefinite A (2, 2): at the optimum inside, or on an edge."""
    (a, b), (_, c) = square_KK.tolist()
    p, q = product_K.tolist()
    candidates = [(x, _clipped(q - b * x, c)) for x in (0.0, 1.0)]
    candidates += [(_clipped(p - b * y, a), y) for y in (0.0, 1.0)]
    determinant = a * c - b * b
    if determinant > 0:
        x, y = (c * p - b * q) / determinant, (a * q - b * p) / determinant
        if 0 <= x <= 1 and 0 <= y <= 1:
            candidates.append((x, y))
    return min(
        candidates,
        key=lambda s: a * s[0] ** 2 / 2 + b * s[0] * s[1] + c * s[1] ** 2 / 2 - p * s[0] - q * s[1],
    )


def _clipped(numerator: float, denominator: float) -> float:
    """The best share along one step alone."""
    if denominator <= 0:
        return float(numerator > 0)
    return min(max(numerator / denominator, 0.0), 1.0)
