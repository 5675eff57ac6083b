"""Published throughput of Llama and of mixtures, and constants of a profile fitted to it (benchmarks/data, sources inside).

A cell is the throughput at which an engine generated with one model on some GPUs at one prompt and output length, under
the largest load that fits. Its prediction is the roofline's latency at the cell's batch, or else at the largest that fits.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, exp, log
from pathlib import Path
from statistics import fmean

from scipy.optimize import minimize  # type: ignore[import-untyped]

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.checker.check import shipped_profiles, shipped_shapes
from puzzledsl.costs.flops import Workload
from puzzledsl.costs.memory import (
    cache_room,
    fixed_bytes,
    largest_batch,
    sequence_bytes,
    size_on,
    weights_bytes,
)
from puzzledsl.costs.roofline import NS_PER_S, fixed_line, sub_block_cost
from puzzledsl.ir.nodes import RooflineHardware, Shape

DATA = Path(__file__).parent / "data"
BOUNDS: dict[str, tuple[float, float, float]] = {
    "efficiency_compute": (0.05, 0.6, 0.95),
    "efficiency_experts": (0.005, 0.3, 0.95),
    "efficiency_bandwidth": (0.05, 0.8, 0.95),
    "efficiency_attention": (0.02, 0.3, 0.6),
    "efficiency_link": (0.05, 0.6, 0.95),
    "overhead_s": (1e-7, 5e-5, 1e-3),
    "link_latency_s": (1e-7, 1e-5, 1e-3),
}
"""Least, first and greatest value of each constant. No access to memory or a link exceeds .95 of its data sheet's bandwidth,
and no known attention kernel exceeds 1.2 of H100's 1.98 PFLOP/s (FlashAttention-3, arXiv 2407.08608)."""
LINK_CONSTANTS = ("efficiency_link", "link_latency_s")
COLUMNS = {
    "dtype": "dtype",
    "experts": "expert_dtype",
    "activations": "activation_dtype",
    "kv_cache": "kv_dtype",
}
"""Column -> field of a profile."""


@dataclass(frozen=True)
class Cell:
    """One figure: `tokens_per_s` over all GPUs. `batch` None: as many sequences as fit."""

    profile: RooflineHardware  # with the cell's GPUs and types
    shape: Shape
    model: str
    prompt: int
    output: int
    tokens_per_s: float
    batch: int | None = None


@dataclass(frozen=True)
class Cells:
    """The cells to fit constants to, and those to judge them by."""

    fitted: tuple[Cell, ...]
    held_out: tuple[Cell, ...]


@dataclass(frozen=True)
class Fit:
    """Fitted constants with their mean absolute relative errors on the fitted and on the held-out cells."""

    constants: dict[str, Fraction]
    error_fitted: float
    error_held_out: float | None
    errors: tuple[float, ...]  # of the held-out cells, signed, in their order


def cells_of(release: str) -> Cells:
    """The cells of one release."""
    profiles, shapes, found = shipped_profiles(), shipped_shapes(), dict[str, list[Cell]]()
    text = (DATA / f"tensorrt_llm_{release}.csv").read_text("utf-8")
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        update: dict[str, object] = {field: row[name] for name, field in COLUMNS.items() if row.get(name)}
        update |= {name: int(row[name]) for name in ("gpus", "expert_parallel") if row.get(name)}
        cell = Cell(
            profile=profiles[row.get("hardware") or "h100_sxm"].model_copy(update=update),
            shape=shapes[row["model"]],
            model=row["model"],
            prompt=int(row["prompt"]),
            output=int(row["output"]),
            tokens_per_s=float(row["throughput"]),
            batch=int(row["batch"]) if row.get("batch") else None,
        )
        found.setdefault(row.get("use") or "held_out", []).append(cell)
    return Cells(tuple(found.get("fit", ())), tuple(found.get("held_out", ())))


def forward_seconds(profile: RooflineHardware, cell: Cell, batch: int) -> tuple[Fraction, Fraction]:
    """Return the seconds of one prefill of `batch` sequences through the whole model, and of one decode step."""
    work = Workload(batch, cell.prompt, cell.output)
    prefill_ns = decode_ns = fixed_line(profile, cell.shape).decode.ns(batch)
    for own, layers in cell.shape.kinds():
        for block in (ParentAttention(), ParentFfn()):
            cost = sub_block_cost(profile, own, block, work)
            prefill_ns += len(layers) * cost.prefill_ns
            decode_ns += len(layers) * cost.decode_ns
    return Fraction(prefill_ns, NS_PER_S), Fraction(decode_ns, NS_PER_S)


def parent_weights_bytes(hardware: RooflineHardware, shape: Shape) -> int:
    """The bytes of the whole parent's weights on one GPU."""
    return fixed_bytes(hardware, shape) + sum(
        len(layers) * weights_bytes(hardware, size_on(hardware, own, block))
        for own, layers in shape.kinds()
        for block in (ParentAttention(), ParentFfn())
    )


def batch_of(profile: RooflineHardware, cell: Cell) -> int:
    """Return the cell's batch, or else the largest that fits, at most the profile's; 0 if none fits."""
    room = cache_room(profile, parent_weights_bytes(profile, cell.shape))
    one = Workload(1, cell.prompt, cell.output)
    caches = [
        (len(layers), sequence_bytes(profile, own, ParentAttention(), one))
        for own, layers in cell.shape.kinds()
    ]

    def fits(batch: int) -> bool:
        return sum(number * ceil(batch * each) for number, each in caches) <= room

    return cell.batch or largest_batch(profile.max_batch, fits)


def predicted_tokens_per_s(profile: RooflineHardware, cell: Cell) -> float:
    """Return the predicted throughput of a full batch in lock step: batch * output / latency; 0 if none fits."""
    batch = batch_of(profile, cell)
    if not batch:
        return 0.0
    prefill, decode = forward_seconds(profile, cell, batch)
    return float(batch * cell.output / (prefill + cell.output * decode))


Predict = Callable[[RooflineHardware, Cell], float]


def relative_errors(
    cells: Sequence[Cell],
    constants: Mapping[str, Fraction] | Mapping[str, float],
    predict: Predict = predicted_tokens_per_s,
) -> list[float]:
    """Return predicted / published - 1 for each cell."""
    return [predict(c.profile.model_copy(update=dict(constants)), c) / c.tokens_per_s - 1 for c in cells]


def mean_absolute(errors: Sequence[float]) -> float:
    """Return the mean absolute value."""
    return fmean(map(abs, errors))


def determined_by(fitted: Sequence[Cell]) -> tuple[str, ...]:
    """Return the constants that these cells can tell apart: a link's only with several numbers of GPUs, experts' of mixtures."""
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
    """Fit the constants `names`, common to all profiles, to the log throughput of `fitted` (Nelder & Mead 1965)."""
    names = names or determined_by(fitted)
    starts = [BOUNDS[name][1] for name in names]
    ends = [
        (log(BOUNDS[name][0] / s), log(BOUNDS[name][2] / s)) for name, s in zip(names, starts, strict=True)
    ]

    def constants_at(point: Sequence[float], digits: int) -> dict[str, Fraction]:
        inside = [min(max(x, low), high) for x, (low, high) in zip(point, ends, strict=True)]
        return {
            n: Fraction(f"{exp(x) * s:.{digits}e}") for n, x, s in zip(names, inside, starts, strict=True)
        }

    def loss(point: Sequence[float]) -> float:
        errors = relative_errors(fitted, constants_at(point, 7), predict)
        # outside the bounds, where constants no longer change, a penalty makes the search return
        beyond = sum(max(0.0, x - high, low - x) ** 2 for x, (low, high) in zip(point, ends, strict=True))
        return fmean(log(max(1 + e, 1e-6)) ** 2 for e in errors) + beyond

    point: Sequence[float] = [0.0] * len(names)
    for _ in range(3):  # a simplex may collapse before it arrives
        steps = [[x + 0.1 * (i == j) for j, x in enumerate(point)] for i in range(len(point))]
        how = {"fatol": 1e-7, "xatol": 1.0, "initial_simplex": [point, *steps]}
        point = minimize(loss, point, method="Nelder-Mead", options=how).x
    best = constants_at(point, 3)
    held = relative_errors(held_out, best, predict)
    on_fitted = mean_absolute(relative_errors(fitted, best, predict))
    return Fit(best, on_fitted, mean_absolute(held) if held else None, tuple(held))
