"""Replace-1-block scores fitted to children that were measured whole, and the block influence of the parent's layers.

A sum of replace-1-block KLs is right for one replacement. For many it is too large or too small: a second replacement changes
little at a position that the first has already spoilt, so a position's KL saturates. Hence the form

    score of a child = a * sum_r mean_p [ G log(1 + kl_rp / G) ]

where kl_rp is replacement r's own KL at position p. The scale a > 0 and the saturation G (nats) minimise the relative errors on
measured children. Those are drawn near the answers of searches with any parameter budget, without a search: in the Lagrangian
relaxation of "least score with at most a share of the parameters", each place chooses independently, given a price per saved
parameter. Every other child is chosen by scores with random noise, as a search with other requirements would choose.

Block influence (ShortGPT: Men et al., arXiv 2403.03853) and the angular distance of runs of layers (Gromov et al., arXiv
2403.17887, over all tokens) come from the parent's pass, which a sweep makes anyway. On SmolLM2 the order of layers settles
between 1,024 and 2,048 positions, that of runs at 256.

Shapes: R replacements, numbered by rows; P positions that count; B sequences, S positions of a group; L layers; H hidden.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.child.healing.fit import Streams
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BlockInfluence, ScoreFit
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.scoring.replacements import Replacement

Floats = NDArray[np.float64]
Rows = tuple[int, ...]
"""A child, as the ascending row numbers of its replacements."""
LEAST_SAVED, MOST_SAVED = 0.05, 0.7  # range of sizes, as shares of the most parameters that can be saved
NOISE = 0.5  # standard deviation of the logarithm of a noisy score
ATTEMPTS = 8  # noisy draws before a size is skipped
HALVINGS = 40
SWAPPED = 1e-2  # added to every saving, as a share of a mean place's, so that replacements that save nothing are chosen too


@dataclass(frozen=True, eq=False)
class Places:
    """Places of a child. `rows`: the mutually exclusive rows of each place. `saved_R`: parameters that each row saves."""

    rows: tuple[Rows, ...]
    saved_R: Floats

    @classmethod
    def of(cls, todo: Sequence[Replacement], shape: Shape) -> Places:
        """Group the replacements by layer and table, and compute their savings."""
        found: dict[tuple[int, str], list[int]] = {}
        for row, replacement in enumerate(todo):
            found.setdefault((replacement.layer, replacement.table), []).append(row)
        saved = np.array([_saved(replacement, shape) for replacement in todo], dtype=np.float64)
        most = sum(max(0.0, *saved[rows].tolist()) for rows in found.values())
        saved += SWAPPED * max(most, 1.0) / len(found)
        return cls(tuple(tuple(rows) for rows in found.values()), saved)

    def cheapest(self, value_R: Floats, price: float) -> Rows:
        """Return the child with the least value - price * saved parameters."""
        cost_R = value_R - price * self.saved_R
        least = (min(rows, key=cost_R.__getitem__) for rows in self.rows)
        return tuple(sorted(row for row in least if cost_R[row] < 0))

    def saving(self, value_R: Floats, share: float) -> Rows:
        """Return the child at the least price, by bisection, that saves at least `share` of the most that can be saved."""
        most = math.fsum(max(0.0, *self.saved_R[list(rows)].tolist()) for rows in self.rows)
        least = float(self.saved_R.min(initial=1.0, where=self.saved_R > 0))
        low, high = 0.0, max(1e-9, float(value_R.max(initial=0.0))) / least
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            rows = self.cheapest(value_R, middle)
            if math.fsum(self.saved_R[list(rows)].tolist()) >= share * most:
                high = middle
            else:
                low = middle
        return self.cheapest(value_R, high)


def _saved(replacement: Replacement, shape: Shape) -> int:
    own = shape.at(replacement.layer)
    return sum(
        PARENTS[sub_block].params(own) - alternative.params(own)
        for sub_block, alternative, _ in replacement.parts
    )


def drawn(places: Places, value_R: Floats, count: int, seed: int, known: Sequence[Rows]) -> list[Rows]:
    """Return up to `count` distinct children with two or more replacements, none in `known`, of evenly spread sizes."""
    found: list[Rows] = []
    for number in range(count):
        share = LEAST_SAVED + (MOST_SAVED - LEAST_SAVED) * (number + 0.5) / count
        offers = _offers(places, value_R, share, f"{seed} {number}", noisy=number % 2 == 1)
        rows = next((o for o in offers if len(o) > 1 and o not in found and o not in known), None)
        if rows is not None:
            found.append(rows)
    return found


def _offers(places: Places, value_R: Floats, share: float, seed: str, *, noisy: bool) -> Iterator[Rows]:
    """Yield the best child of about a size (unless `noisy`), then ATTEMPTS children chosen by scores with noise."""
    if not noisy:
        yield places.saving(value_R, share)
    chance = random.Random(seed)
    for _ in range(ATTEMPTS):
        noise = np.array([math.exp(chance.gauss(0, NOISE)) for _ in range(len(value_R))])
        yield places.saving(value_R * noise, share)


SATURATIONS = (math.inf, 12.8, 6.4, 3.2, 1.6, 0.8, 0.4, 0.2)
"""Grid of the saturation G, in nats."""
BETTER = 0.9
"""A smaller saturation is chosen only if it reduces the error by this factor or more."""
LEAST = -0.5
"""Least KL in units of G; further below 0 the logarithm leaves its domain."""
FEWEST = 8
"""Least number of children for a fit."""
Measured = Sequence[tuple[Rows, float]]
"""(child, its measured KL in nats) pairs."""


def saturated(kl_RP: Floats, saturation: float) -> Floats:
    """Return mean_p [G log(1 + kl / G)], [R]; the plain mean for an infinite G.

    Rounding takes some KLs near 0 below it. They stay, because cutting them off would add what rounding takes to every mean.
    """
    if math.isinf(saturation):
        return np.asarray(kl_RP.mean(axis=1))
    return np.asarray((saturation * np.log1p(np.maximum(kl_RP / saturation, LEAST))).mean(axis=1))


@dataclass(frozen=True, eq=False)
class Form:
    """Predictor of a child's KL: the sum of its replacements' scores, in nats."""

    singles_R: Floats
    fit: ScoreFit | None = None


def fitted(kl_RP: Floats, children: Measured) -> Form:
    """Return the form that predicts the children best, with leave-one-out errors; the plain sum for fewer than FEWEST."""
    children = [(rows, kl) for rows, kl in children if kl > 0]
    if len(children) < FEWEST:
        return Form(saturated(kl_RP, math.inf))
    true = np.array([kl for _, kl in children])
    sums = {
        g: np.array([_sum(values, rows) for rows, _ in children]) / true
        for g in SATURATIONS
        for values in [saturated(kl_RP, g)]
    }
    errors = _unseen(sums)
    saturation, scale = _best(sums, np.ones(len(children), dtype=np.bool_))
    fit = ScoreFit(
        children=len(children),
        scale=scale,
        saturation_nats=None if math.isinf(saturation) else saturation,
        error_rms=math.sqrt(math.fsum(errors**2) / len(errors)),
        error_most=float(np.abs(errors).max()),
    )
    return Form(scale * saturated(kl_RP, saturation), fit)


def _unseen(sums: dict[float, Floats]) -> Floats:
    """Return the relative error on each child [N] of the fit to all others."""
    count = len(next(iter(sums.values())))
    errors = np.empty(count)
    for left_out in range(count):
        saturation, scale = _best(sums, np.arange(count) != left_out)
        errors[left_out] = scale * sums[saturation][left_out] - 1
    return errors


def _best(sums: dict[float, Floats], seen: Floats) -> tuple[float, float]:
    """Return the largest G whose RMS error is at most the least one / BETTER, with its scale."""
    tried = [(g, _scale(column[seen])) for g, column in sums.items()]
    left = [math.fsum((scale * sums[g][seen] - 1) ** 2) for g, scale in tried]
    enough = min(left) / BETTER**2
    return next(found for found, error in zip(tried, left, strict=True) if error <= enough)


def _scale(sums: Floats) -> float:
    """Minimise the squares of `scale * sums - 1` over the scale."""
    return math.fsum(sums) / math.fsum(sums * sums)


def _sum(values_R: Floats, rows: Rows) -> float:
    return math.fsum(values_R[list(rows)].tolist())


POSITIONS = 2048
"""Number of positions to average over, if the text has them; enough for stable means."""
CHUNK = 64
"""Positions whose streams are compared at once, in float32."""
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over a group's positions for each pair of streams: 1 - cosine and angle / pi, both float64 [L + 1, L + 1]."""

    positions: int
    change_LL: Tensor
    angle_LL: Tensor


def counted(is_text: Sequence[Tensor]) -> list[Tensor]:
    """Return the flat indices, by group, of the first POSITIONS positions that are not padding."""
    left, found = POSITIONS, []
    for mask_BS in is_text:
        index_P = mask_BS.flatten().nonzero()[:left, 0]
        left -= len(index_P)
        found.append(index_P)
    return found


def observed_pass(
    runner: LayerRunner,
    groups: Sequence[Tensor],
    counted_groups: Sequence[Tensor],
    folder: Path,
    held_bytes: int,
) -> list[tuple[Tensor, Sums]]:
    """Run all layers on groups [B, S, H]; return each one's last output, [B, S, H], and the sums over its counted positions.

    All streams are compared with each other, so they are kept until the pass ends: above `held_bytes` in a file in `folder`.
    """
    hidden = list(groups)
    index = [positions.to(runner.device) for positions in counted_groups]
    streams = [Streams(runner, [at] * (len(runner) + 1), folder, held_bytes=held_bytes) for at in index]
    for layer_idx in range(len(runner) + 1):
        for kept, group, at in zip(streams, hidden, index, strict=True):
            kept[layer_idx] = group.flatten(0, 1)[at]
        if layer_idx < len(runner):
            hidden = [runner.run_layer(layer_idx, group) for group in hidden]
    return [(group, sums_of(kept)) for group, kept in zip(hidden, streams, strict=True)]


def sums_of(streams: Streams | Sequence[Tensor]) -> Sums:
    """Compare each pair of the L + 1 streams [P, H]: the layers' inputs and the last layer's output."""
    count, positions = len(streams), len(streams[0])
    change_LL = torch.zeros(count, count, dtype=torch.float64)
    angle_LL = torch.zeros_like(change_LL)
    for start in range(0, positions, CHUNK):
        stream_PLH = torch.stack([s[start : start + CHUNK].float() for s in streams], dim=1)
        unit_PLH = torch.nn.functional.normalize(stream_PLH, dim=-1)
        cosine_PLL = (unit_PLH @ unit_PLH.mT).clamp(-1, 1)
        change_LL += (1 - cosine_PLL).double().sum(0).cpu()
        angle_LL += (cosine_PLL.double().arccos() / torch.pi).sum(0).cpu()
    return Sums(positions, change_LL, angle_LL)


def block_influence(sums: Sequence[Sums], text: str) -> BlockInfluence:
    """Return the means over all groups. `text`: name of the data, kept with the result."""
    positions = sum(group.positions for group in sums)
    change_LL = torch.stack([group.change_LL for group in sums]).sum(0) / max(1, positions)
    angle_LL = torch.stack([group.angle_LL for group in sums]).sum(0) / max(1, positions)
    layers = len(change_LL) - 1
    return BlockInfluence(
        text=text,
        positions=positions,
        layers=_rounded(change_LL.diagonal(1)),
        runs=tuple(_rounded(angle_LL.diagonal(length)) for length in range(1, layers + 1)),
    )


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values.tolist())
