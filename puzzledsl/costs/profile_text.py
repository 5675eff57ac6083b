"""A calibrated profile as a `.pzl` file, with the provenance of its constants."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from puzzledsl.costs.calibrate import BOUNDS, Fit
from puzzledsl.costs.cells_csv import Cells
from puzzledsl.syntax.format import format_source

EFFICIENCY = "efficiency_"
TIMES = {"overhead_s": "overhead", "link_latency_s": "link_latency"}
MICROSECONDS = 10**6


def calibrated_name(profile: str) -> str:
    """Return the name of the calibrated profile."""
    return f"{profile}_calibrated"


def calibrated_text(profile: str, used_from: str, data: Path, sha256: str, cells: Cells, fit: Fit) -> str:
    """Return a program with one declaration: the profile (from the file `used_from`) with the fitted constants.

    Comments and settings record the provenance of the constants.
    """
    fitted = f"fitted to {len(cells.fitted)} cells of {data.name}"
    held = (
        f"{fit.error_held_out:.1%} mean error on {len(cells.held_out)} others"
        if fit.error_held_out is not None
        else "no cells were held out"
    )
    shares = [
        f"{name.removeprefix(EFFICIENCY)} = {_decimal(value)}{_at_bound(name, value)}"
        for name, value in fit.constants.items()
        if name.startswith(EFFICIENCY)
    ]
    times = [
        f"{TIMES[name]} = {_decimal(value * MICROSECONDS)}us{_at_bound(name, value)}"
        for name, value in fit.constants.items()
        if name in TIMES
    ]
    lines = [
        f"# Written by `pzl calibrate {profile} --data {data.name}`.",
        f'use "{used_from}" ({profile})',
        "",
        f"## {profile}, {fitted}; {held}.",
        f"hardware {calibrated_name(profile)} of {profile} {{",
        *(["efficiency {", *shares, "}"] if shares else []),
        *times,
        f'calibration = "{fitted} (sha256 {sha256[:16]}); models: {_models(cells)}"',
        *([] if fit.error_held_out is None else [f"error = {fit.error_held_out * 100:.2f}%"]),
        "}",
        "",
    ]
    return format_source("\n".join(lines))


def _models(cells: Cells) -> str:
    return ", ".join(dict.fromkeys(cell.model for cell in cells.fitted))


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"


def _at_bound(name: str, value: Fraction) -> str:
    return "  # at its bound" if float(value) in BOUNDS[name] else ""


def report_lines(cells: Cells, fit: Fit) -> Sequence[str]:
    """Return the fitted constants and their errors as lines of text."""
    lines = [f"fitted {len(fit.constants)} constants to {len(cells.fitted)} cells"]
    for name, value in fit.constants.items():
        shown = f"{_decimal(value * MICROSECONDS)}us" if name in TIMES else _decimal(value)
        label = TIMES.get(name) or name.replace("_", " of ")
        lines.append(f"  {label:<24} {shown}{_at_bound(name, value).replace('  # ', ', ')}")
    lines.append(f"  error on these           {fit.error_fitted:.1%}")
    if fit.error_held_out is None:
        lines.append(
            "no cells were held out: mark some `held_out` in the `use` column to know how well this predicts"
        )
        return lines
    lines.append(f"held out: {len(cells.held_out)} cells, mean error {fit.error_held_out:.1%}")
    groups: dict[tuple[str, str, int], list[float]] = {}
    for cell, error in zip(cells.held_out, fit.errors, strict=True):
        groups.setdefault((cell.profile.profile, cell.model, cell.profile.gpus), []).append(error)
    for (hardware, model, gpus), errors in groups.items():
        mean = sum(map(abs, errors)) / len(errors)
        where = f"{model} on {gpus} x {hardware}"
        lines.append(f"  {where:<40} {len(errors):3} cells  {mean:6.1%}")
    return lines
