"""Ridge regression of a sub-block's last linear map that brings the child's residual stream back to the parent's.

A sub-block should add two terms: the parent's change between the same two points of its stream (`added`), and the difference
between the parent's and the child's stream where the sub-block reads (`drift`). Each gives a step from the present weights,
by ridge regression towards these. Tokens are weighted by the inverse mean square of the parent's stream, because the next
norm divides by it; without weights a few tokens with massive activations dominate the fit. In a family with a norm behind
its sub-blocks, the norm is taken for a multiplication of each channel and token by what it multiplies the present output by.
Held-out tokens decide the share of each step that is taken, so that a step which does not generalise is left out.

Streams above a size limit lie in a memory-mapped file, unlinked as soon as it is mapped: nothing stays of an interrupted run.

Shapes: B sequences, S positions, T tokens, H hidden, P inputs of the last map, Q = 2 H outputs, K the two steps.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.files import reserve
from puzzledsl.child.healing.layer import ChildSubBlock, ExpertByExpert, Grid, expert_steps, ridge_of
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import Gram, solve_ridge
from puzzledsl.models.precision.gptq import gptq

HELD_BYTES = 1 << 30
"""Default limit: streams above this size are kept in a file."""


class Streams:
    """A list of hidden states [..., H], one for each group. States in a file are copied to the device when read."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Allocate streams for groups of positions, [B, S] or flat. Their content is undefined until it is set."""
        self._device = runner.device
        shapes = [(*group.shape, runner.hidden_size) for group in groups]
        numbers = sum(group.numel() for group in groups) * runner.hidden_size
        self._groups: list[Tensor | None] = [None] * len(shapes)
        self.in_file = numbers * runner.dtype.itemsize > held_bytes
        if self.in_file:
            self._groups = list(_mapped(folder, numbers, runner.dtype, shapes))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Tensor:
        found = self._groups[index]
        assert found is not None, "a stream is read before it is set"
        return found.to(self._device) if self.in_file else found

    def __setitem__(self, index: int, hidden: Tensor) -> None:
        place = self._groups[index]
        if self.in_file and place is not None:
            place.copy_(hidden)
        else:
            self._groups[index] = hidden

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))


def _mapped(
    folder: Path, numbers: int, dtype: torch.dtype, shapes: Sequence[tuple[int, ...]]
) -> Iterator[Tensor]:
    """Yield tensors of these shapes that share one memory-mapped file. A private map would count as memory of the process."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".hidden-", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        reserve(Path(name), numbers * dtype.itemsize)
        whole = torch.from_file(name, shared=True, size=numbers, dtype=dtype)
    finally:
        Path(name).unlink()
    first = 0
    for shape in shapes:
        size = torch.Size(shape).numel()
        yield whole[first : first + size].view(shape)
        first += size


class ParentStream:
    """The parent's stream of several token groups. Points (see `child.healing.layer`) are requested in ascending order."""

    def __init__(
        self, runner: LayerRunner, groups: Sequence[Tensor], folder: Path, *, held_bytes: int = HELD_BYTES
    ) -> None:
        """Embed token ids [B, S]. Streams of more than `held_bytes` are kept in files in `folder`."""
        self._runner, self._groups, self._folder, self._held_bytes = runner, groups, folder, held_bytes
        self._points = {0: self.new()}
        self._layer_idx = 0  # the layer that reads the last computed point
        self._kwargs: dict[tuple[int, torch.Size], dict[str, Any]] = {}
        for index, tokens in enumerate(groups):
            self._points[0][index] = runner.embed(tokens.to(runner.device))

    def new(self) -> Streams:
        """Return empty `Streams` with the shapes of these groups."""
        return Streams(self._runner, self._groups, self._folder, held_bytes=self._held_bytes)

    def at(self, point: int) -> Streams:
        """Return the stream at a point, running layers up to it. It must not be a point that was dropped."""
        while point not in self._points:
            entering, between, leaving = self._points[2 * self._layer_idx], self.new(), self.new()
            for index, hidden in enumerate(entering):
                trace = self._runner.trace_layer(self._layer_idx, hidden)
                between[index], leaving[index] = trace.between, trace.output
                self._kwargs[self._layer_idx, hidden.shape] = trace.attention_kwargs
            self._points[2 * self._layer_idx + 1] = between
            self._layer_idx += 1
            self._points[2 * self._layer_idx] = leaving
        return self._points[point]

    def drop_below(self, point: int) -> None:
        """Run layers up to a point, and drop the streams below it, but not the last computed one, which the next layer reads."""
        self.at(point)
        for old in [p for p in self._points if p < point and p != 2 * self._layer_idx]:
            del self._points[old]

    def attention_kwargs(self, layer_idx: int, hidden_BSH: Tensor) -> dict[str, Any]:
        """Return the other arguments of a layer's attention for states of this shape, once the layer has been run."""
        return self._kwargs[layer_idx, hidden_BSH.shape]


SMALLEST_STREAM = 1e-6
"""Added to the mean square of a stream before the inverse square root."""
RIDGE_TOKENS = 3.0
"""Ridge = RIDGE_TOKENS * inputs / tokens * mean diagonal. Less than initialisers take (`grams.TOWARDS_START`), because
held-out tokens shorten steps. KL of SmolLM2 without layers 12-17, on 4,096 tokens, is .493, .490 and .501 with 2, 3 and 5."""
JOINED_TOKENS = 4096
"""Tokens that are collected before their products are added to the Gram matrix."""
SINGLE_PRECISION_TOKENS = 1 << 15
"""Up to this many tokens the equations are solved in float32. A ridge of RIDGE_TOKENS * P / T of the mean diagonal bounds their
condition number by T / RIDGE_TOKENS, so that rounding is a thousandth of the step at most."""


@dataclass(frozen=True, slots=True)
class FitBatch:
    """One group of sequences at a sub-block.

    `read` [B, S, P]: input of its last map. `child` and `parent` [B, S, H]: the two streams where the sub-block reads. `goal`
    [B, S, H]: the parent's stream at the sub-block's goal.
    """

    read: Tensor
    child: Tensor
    parent: Tensor
    goal: Tensor

    def weight(self) -> Tensor:
        """Return the square root of the tokens' weights, a factor of both sides of the regression, [B, S, 1]."""
        return self.goal.float().square().mean(-1, keepdim=True).add(SMALLEST_STREAM).rsqrt()

    def added(self) -> Tensor:
        """Return the change of the parent's stream from the sub-block's point to its goal, float32 [B, S, H]."""
        return self.goal.float() - self.parent.float()

    def drift(self) -> Tensor:
        """Return the parent's stream minus the child's where the sub-block reads, float32 [B, S, H]."""
        return self.parent.float() - self.child.float()


@torch.no_grad()
def fit_last(
    sub_block: ChildSubBlock, calibration: Iterable[FitBatch], held_out: Iterable[FitBatch]
) -> tuple[float, float]:
    """Fit the last map in place; of biases, experts' alone. Return the shares taken of its steps (`added`, `drift`); 0: none."""
    last = sub_block.last
    assert last is not None
    if isinstance(last, ExpertByExpert):
        with repeatable(last.matrices_HP[0].device):
            return _fit_experts(sub_block, last, calibration, held_out)
    gram = Gram.zeros(last.in_features, 2 * last.out_features, last.weight.device)
    for read_TP, wanted_TQ in _joined(sub_block, calibration):
        gram.add(read_TP, wanted_TQ)
    judges = held_out if sub_block.grid is None else list(held_out)  # read again
    single = gram.tokens <= SINGLE_PRECISION_TOKENS
    given = (gram.xx.float(), gram.xy.float()) if single else (gram.xx, gram.xy)
    # the step that fits `added`, and the one that fits `drift`
    steps_KPH = torch.split(solve_ridge(*given, relative=gram.ridge(RIDGE_TOKENS)), last.out_features, dim=1)
    shares = choose_shares(sub_block, [partial(_product, step_PH) for step_PH in steps_KPH], judges)
    step_PH = shares[0] * steps_KPH[0] + shares[1] * steps_KPH[1]
    if sub_block.grid is not None:
        return shares if _put_on_grid(sub_block, sub_block.grid, step_PH, gram, judges) else (0.0, 0.0)
    last.weight.copy_((last.weight.T.to(step_PH) + step_PH).T.to(last.weight))
    return shares


def _fit_experts(
    sub_block: ChildSubBlock,
    last: ExpertByExpert,
    calibration: Iterable[FitBatch],
    held_out: Iterable[FitBatch],
) -> tuple[float, float]:
    parts = [(seen.read.float().flatten(0, 1), *_targets(sub_block, seen)) for seen in calibration]
    x_TH, weight_T1, wanted_TQ = (torch.cat(some) for some in zip(*parts, strict=True))
    ridge = ridge_of(last, x_TH, weight_T1, RIDGE_TOKENS)
    steps_QP = expert_steps(last, x_TH, weight_T1, wanted_TQ, ridge)
    steps_KHP = list(zip(*(step_QP.chunk(2) for step_QP in steps_QP), strict=True))
    shares = choose_shares(sub_block, [partial(last.through, step) for step in steps_KHP], held_out)
    for matrix_HP, added_HP, drift_HP in zip(last.matrices_HP, *steps_KHP, strict=True):
        matrix_HP.copy_(matrix_HP.float() + shares[0] * added_HP + shares[1] * drift_HP)
    return shares


def _product(step_PH: Tensor, read_BSP: Tensor) -> Tensor:
    return read_BSP.float() @ step_PH.float()


def _put_on_grid(
    sub_block: ChildSubBlock, grid: Grid, step_PH: Tensor, gram: Gram, held_out: Iterable[FitBatch]
) -> bool:
    """Round a quantised map to its grid again, with error compensation, if that lowers the held-out error; False if it stays."""
    found_HP = gptq(grid.weight.to(step_PH) + step_PH.T, gram.xx, grid.precision, gram.tokens)
    change_PH = (found_HP - grid.weight).T
    effects = [partial(_product, change_PH), partial(_product, 0 * change_PH)]
    # beyond the half, the whole step has less error
    better = choose_shares(sub_block, effects, held_out)[0] > 0.5
    if better:
        sub_block.put_on_grid(found_HP)
    return better


def _targets(sub_block: ChildSubBlock, seen: FitBatch) -> tuple[Tensor, Tensor]:
    """Return the factor of inputs [T, 1] and the weighted residual targets [T, Q] of the regression."""
    missing = seen.added() - sub_block.added(seen.read).float()
    weight, channels_H = seen.weight() * sub_block.scale(seen.read), sub_block.channels_H
    wanted = torch.cat([missing, seen.drift()], -1) * seen.weight()
    if channels_H is not None:
        wanted = wanted / channels_H.expand(seen.child.shape[-1]).repeat(2)
    return weight.flatten(0, 1), wanted.flatten(0, 1)


def _joined(sub_block: ChildSubBlock, batches: Iterable[FitBatch]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the weighted inputs [T, P] and residual targets [T, Q] of the regression, JOINED_TOKENS or more at a time.

    With few tokens, adding the Gram matrices takes most of the time.
    """
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for seen in batches:
        weight_T1, wanted_TQ = _targets(sub_block, seen)
        xs.append(seen.read.float().flatten(0, 1) * weight_T1)
        ys.append(wanted_TQ)
        if sum(map(len, xs)) >= JOINED_TOKENS:
            yield torch.cat(xs), torch.cat(ys)
            xs, ys = [], []
    if xs:
        yield torch.cat(xs), torch.cat(ys)


def choose_shares(
    sub_block: ChildSubBlock, effects: Sequence[Callable[[Tensor], Tensor]], held_out: Iterable[FitBatch]
) -> tuple[float, float]:
    """Return the shares of the two steps, in [0, 1], that minimise the weighted squared error of held-out tokens at the goal.

    `effects`: the change of the last map's output by each step, for its input `read`.
    """
    sums = torch.zeros((), dtype=torch.float64)
    for seen in held_out:
        weight = seen.weight()
        missing = (seen.added() + seen.drift() - sub_block.added(seen.read).float()) * weight
        gain = weight * sub_block.scale(seen.read)
        if sub_block.channels_H is not None:
            gain = gain * sub_block.channels_H
        moved = [effect(seen.read) * gain for effect in effects]
        products = [(a * b).sum(dtype=torch.float64) for a in moved for b in (*moved, missing)]
        sums = sums + torch.stack(products)
    read_K3 = sums.cpu().expand(6).view(2, 3)  # read once, as each reading waits for a GPU
    return least_in_box(read_K3[:, :2], read_K3[:, 2])


def least_in_box(square_KK: Tensor, product_K: Tensor) -> tuple[float, float]:
    """Return argmin of x'Ax / 2 - b'x over 0 <= x <= 1, of a positive semidefinite A [2, 2]: the optimum inside or on an edge."""
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
    """Return the minimiser in [0, 1] of denominator * x^2 / 2 - numerator * x."""
    if denominator <= 0:
        return float(numerator > 0)
    return min(max(numerator / denominator, 0.0), 1.0)
