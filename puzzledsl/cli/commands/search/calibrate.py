"""`pzl calibrate`: fit the constants of a roofline profile to measured throughput. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import JsonOption

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import RooflineHardware

CONSTANTS = ("compute", "experts", "bandwidth", "attention", "link", "overhead", "link_latency")


def calibrate(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="A shipped profile, or FILE.pzl:NAME for one of yours.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path, typer.Option("--data", metavar="CSV", help="Throughput figures, one a row.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: CSV's name with `.pzl`.")
    ] = None,
    fit: Annotated[
        list[str] | None,
        typer.Option(
            "--fit",
            metavar="CONSTANT",
            help=f"Fit only this constant ({', '.join(CONSTANTS)}). May be repeated.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit a profile's constants to throughput figures and write the profile with the source of each constant.

    The CSV has the columns model, prompt, output and throughput (generated tokens a second of all GPUs), and may have
    hardware, gpus, expert_parallel, dtype, experts, activations, kv_cache, batch and use. Constants are fitted to rows
    whose `use` is `fit`; the rows that are `held_out` say how well they predict.
    """
    from puzzledsl.base.diagnostics import DiagnosticError, Sink
    from puzzledsl.base.files import sha256_of, write_text
    from puzzledsl.checker.check import HARDWARE, shipped_shapes
    from puzzledsl.cli import output as out
    from puzzledsl.costs.calibrate import determined_by, fit_constants
    from puzzledsl.costs.cells_csv import calibrated_name, calibrated_text, read_cells, report_lines
    from puzzledsl.costs.errors import TooFewCells

    wanted = _constants(fit)
    name, profiles, used_from = _profile(profile)
    sink = Sink()
    cells = read_cells(data, profiles[name], profiles, shipped_shapes(), sink)
    if sink.has_errors:
        raise DiagnosticError(*sink.sorted())
    names = wanted or determined_by(cells.fitted)
    if len(cells.fitted) < len(names):
        raise DiagnosticError(TooFewCells(None, cells=len(cells.fitted), constants=len(names)))
    found = fit_constants(cells.fitted, cells.held_out, names)
    file = output or data.with_suffix(".pzl")
    source = HARDWARE if used_from is None else _relative(used_from, file.parent)
    write_text(file, calibrated_text(name, source, data, sha256_of(data), cells, found))
    if json:
        out.print_json(
            {
                "profile": calibrated_name(name),
                "file": str(file),
                "constants": {n: float(v) for n, v in found.constants.items()},
                "cells": {"fitted": len(cells.fitted), "held_out": len(cells.held_out)},
                "error": {"fitted": found.error_fitted, "held_out": found.error_held_out},
            }
        )
    else:
        print("\n".join([*report_lines(cells, found), f"wrote {calibrated_name(name)} to {file}"]))


def _constants(fit: list[str] | None) -> tuple[str, ...]:
    """The field names of the constants that are named; a usage error for any other."""
    for name in fit or ():
        if name not in CONSTANTS:
            raise typer.BadParameter(f"`{name}` is none of {', '.join(CONSTANTS)}", param_hint="--fit")
    times = ("overhead", "link_latency")
    return tuple(f"{n}_s" if n in times else f"efficiency_{n}" for n in dict.fromkeys(fit or ()))


def _profile(text: str) -> tuple[str, dict[str, RooflineHardware], Path | None]:
    """The name of a profile, all profiles that rows may name, and the file it is in (None: shipped)."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.base.phrases import closest
    from puzzledsl.checker.check import profiles_of, shipped_profiles
    from puzzledsl.costs.errors import UnknownProfile

    path, colon, name = text.rpartition(":")
    file = Path(path) if colon else None
    profiles = shipped_profiles()
    own = profiles_of(file) if file else profiles
    if name not in own:
        near = closest(name, own)
        help = f"did you mean `{near}`?" if near else "there are " + ", ".join(f"`{n}`" for n in own)
        raise DiagnosticError(UnknownProfile(None, name=name, help=help))
    return name, {**profiles, **own}, file


def _relative(path: Path, folder: Path) -> str:
    import os

    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
