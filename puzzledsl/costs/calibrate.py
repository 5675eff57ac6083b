"""Calibration of the roofline: constants fitted to throughput figures, validated on held-out figures.

A cell is the throughput at which an engine generated with one model on some GPUs at one prompt and output length,
under the largest load that fits. Its prediction is the roofline's latency at the cell's batch, or else at the largest
batch that fits. Precondition: the profiles can run (`costs.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from math import exp, log
from statistics import fmean

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.frozen import record
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import largest_parent_batch
from puzzledsl.costs.roofline import fixed_times, sub_block_times
from puzzledsl.ir.nodes import RooflineHardware, Shape

Predict = Callable[[RooflineHardware, "Cell"], float]

# Bounds of the constants. No access to memory or a link exceeds this share of its data sheet's bandwidth, and no
# known attention kernel exceeds 1.2 of H100's 1.98 PFLOP/s (FlashAttention-3, arXiv 2407.08608).
BOUNDS: dict[str, tuple[float, float]] = {
    "efficiency_compute": (0.05, 0.95),
    "efficiency_experts": (0.005, 0.95),
    "efficiency_bandwidth": (0.05, 0.95),
    "efficiency_attention": (0.02, 0.6),
    "efficiency_link": (0.05, 0.95),
    "overhead_s": (1e-7, 1e-3),
    "link_latency_s": (1e-7, 1e-3),
}
# Start of the search, independent of the profile: the same figures give the same constants.
START = {
    "efficiency_compute": 0.6,
    "efficiency_experts": 0.3,
    "efficiency_bandwidth": 0.8,
    "efficiency_attention": 0.3,
    "efficiency_link": 0.6,
    "overhead_s": 5e-5,
    "link_latency_s": 1e-5,
}
RESTARTS = 3  # a simplex may collapse before it arrives
LINK_CONSTANTS = ("efficiency_link", "link_latency_s")
DIGITS = 4  # of a fitted constant


@record
class Cell:
    """One figure: `tokens_per_s` over all GPUs. `batch` None: as many sequences as fit."""

    profile: RooflineHardware  # with the cell's GPUs and types
    shape: Shape
    model: str
    prompt: int
    output: int
    tokens_per_s: float
    batch: int | None = None
    line: int = 0


@record
class Fit:
    """Fitted constants with their mean absolute relative errors on the fitted and on the held-out cells."""

    constants: dict[str, Fraction]
    error_fitted: float
    error_held_out: float | None
    errors: tuple[float, ...]  # of the held-out cells, signed, in their order


def with_constants(
    profile: RooflineHardware, constants: Mapping[str, Fraction] | Mapping[str, float]
) -> RooflineHardware:
    """Return the profile with these constants."""
    return profile.model_copy(update=dict(constants))


def forward_seconds(profile: RooflineHardware, cell: Cell, batch: int) -> tuple[Fraction, Fraction]:
    """Return the seconds of one prefill of `batch` sequences through the whole model, and of one decode step."""
    work = Workload(batch, cell.prompt, cell.output)
    prefill = decode = fixed_times(profile, cell.shape, work).total
    for own, layers in cell.shape.kinds():
        for block in (ParentAttention(), ParentFfn()):
            times = sub_block_times(profile, own, block, work)
            prefill += len(layers) * times[0].total
            decode += len(layers) * times[1].total
    return prefill, decode


def batch_of(profile: RooflineHardware, cell: Cell) -> int:
    """Return the cell's batch, or else the largest that fits; 0 if none fits."""
    return cell.batch or largest_parent_batch(profile, cell.shape, cell.prompt, cell.output)


def predicted_tokens_per_s(profile: RooflineHardware, cell: Cell) -> float:
    """Return the predicted throughput of a full batch in lock step: batch * output / latency; 0 if none fits."""
    batch = batch_of(profile, cell)
    if not batch:
        return 0.0
    prefill, decode = forward_seconds(profile, cell, batch)
    return float(batch * cell.output / (prefill + cell.output * decode))


def relative_errors(
    cells: Sequence[Cell],
    constants: Mapping[str, Fraction] | Mapping[str, float],
    predict: Predict = predicted_tokens_per_s,
) -> list[float]:
    """Return predicted / published - 1 for each cell."""
    return [predict(with_constants(c.profile, constants), c) / c.tokens_per_s - 1 for c in cells]


def mean_absolute(errors: Sequence[float]) -> float:
    """Return the mean absolute value."""
    return fmean(map(abs, errors))


def determined_by(fitted: Sequence[Cell]) -> tuple[str, ...]:
    """Return the constants that these cells can distinguish.

    If all cells have the same number of GPUs, the link's time is proportional to that of the matrices, and its
    latency to the overhead: those constants keep the profile's values. Without a mixture nothing depends on the experts'
    efficiency.
    """
    linked = len({cell.profile.gpus for cell in fitted}) > 1
    mixtures = any(own.ffn == "moe" for cell in fitted for own, _ in cell.shape.kinds())
    without = (*(() if linked else LINK_CONSTANTS), *(() if mixtures else ("efficiency_experts",)))
    return tuple(name for name in BOUNDS if name not in without)


def fit_constants(
    fitted: Sequence[Cell],
    held_out: Sequence[Cell],
    names: Sequence[str] = (),
    predict: Predict = predicted_tokens_per_s,
) -> Fit:
    """Fit the constants `names`, common to all profiles, to the log throughput of `fitted` by least squares.

    Without names, fit all that the cells determine. Raises ValueError if there are fewer cells than constants.
    """
    names = names or determined_by(fitted)
    if len(fitted) < len(names):
        raise ValueError(f"{len(fitted)} cells do not determine {len(names)} constants")
    start = [START[name] for name in names]

    def constants_at(point: Sequence[float]) -> dict[str, Fraction]:
        return {name: _within(name, exp(x) * s) for name, x, s in zip(names, point, start, strict=True)}

    quick = [_in_floats(cell) for cell in fitted]

    def loss(point: Sequence[float]) -> float:
        constants = {name: float(value) for name, value in constants_at(point).items()}
        errors = relative_errors(quick, constants, predict)
        return fmean(log(max(1 + e, 1e-6)) ** 2 for e in errors) + _beyond(names, point, start)

    point = [0.0] * len(names)
    for _ in range(RESTARTS):
        point = minimum(loss, point)
    best = constants_at(point)
    held = relative_errors(held_out, best, predict)
    return Fit(
        constants=best,
        error_fitted=mean_absolute(relative_errors(fitted, best, predict)),
        error_held_out=mean_absolute(held) if held else None,
        errors=tuple(held),
    )


def _in_floats(cell: Cell) -> Cell:
    """Return the cell with a profile in floating point: accurate enough for a search and about ten times as fast."""
    exact = {n: getattr(cell.profile, n) for n in type(cell.profile).model_fields}
    floats = {name: float(value) for name, value in exact.items() if isinstance(value, Fraction)}
    peaks = {dtype: float(peak) for dtype, peak in cell.profile.flop_per_s.items()}
    return replace(cell, profile=cell.profile.model_copy(update={**floats, "flop_per_s": peaks}))


def _within(name: str, value: float) -> Fraction:
    low, high = BOUNDS[name]
    return Fraction(f"{min(max(value, low), high):.{DIGITS - 1}e}")


def _beyond(names: Sequence[str], point: Sequence[float], start: Sequence[float]) -> float:
    """Return a penalty outside the bounds, where the clipped constants no longer change, so that the search returns."""
    total = 0.0
    for name, x, s in zip(names, point, start, strict=True):
        low, high = BOUNDS[name]
        total += max(0.0, x + log(s / high)) ** 2 + max(0.0, -x - log(s / low)) ** 2
    return total


def minimum(
    loss: Callable[[Sequence[float]], float],
    start: Sequence[float],
    step: float = 0.1,
    iterations: int = 400,
    tolerance: float = 1e-7,
) -> list[float]:
    """Return the minimiser of a smooth function of a few variables (downhill simplex, Nelder & Mead 1965)."""
    simplex = [list(start)]
    simplex += [[x + step * (i == j) for j, x in enumerate(start)] for i in range(len(start))]
    values = [loss(point) for point in simplex]
    for _ in range(iterations):
        order = sorted(range(len(values)), key=values.__getitem__)
        simplex, values = [simplex[i] for i in order], [values[i] for i in order]
        if values[-1] - values[0] < tolerance:
            break
        centre = [fmean(column) for column in zip(*simplex[:-1], strict=True)]

        def along(
            distance: float, centre: list[float] = centre, worst: list[float] = simplex[-1]
        ) -> list[float]:
            return [c + distance * (c - w) for c, w in zip(centre, worst, strict=True)]

        point = along(1.0)
        value = loss(point)
        if value < values[0]:
            further = along(2.0)
            value_further = loss(further)
            point, value = (further, value_further) if value_further < value else (point, value)
        elif value >= values[-2]:
            point = along(0.5 if value < values[-1] else -0.5)
            value = loss(point)
        if value < values[-1]:
            simplex[-1], values[-1] = point, value
        else:
            best = simplex[0]
            simplex = [best] + [[(b + x) / 2 for b, x in zip(best, p, strict=True)] for p in simplex[1:]]
            values = [values[0], *(loss(p) for p in simplex[1:])]
    return simplex[min(range(len(values)), key=values.__getitem__)]
