"""`pzl measure`: times of real blocks on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, OnOption, SetOption


def measure(
    file: FileArgument,
    spaces: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew what is measured already, on a quieter machine.")
    ] = False,
) -> None:
    """Measure real blocks on this machine, for scenarios on `measured(...)` hardware.

    In PyTorch each distinct block once, prefill and decode; in an engine that serves exported models, whole models of random
    mixtures. Then random whole children, to say how far sums of blocks are off. Writes costs/SPACE.measured.json, and
    costs/SPACE.measured.csv for `table(...)` hardware in other programs. Warns of a busy machine. Interrupt it at any moment:
    the same command goes on from there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.cli.output import print_diagnostics
    from puzzledsl.ir.tables import CostTable
    from puzzledsl.pipeline.text.timing_text import doubtful_timings

    ctx = loading.context(file, set_, build)
    ctx.on = on
    wanted = do_stage(ctx, "measure", spaces, again=again)
    for space in wanted:
        table = ctx.load(ctx.build.measured_costs(space), CostTable, "measure", space)
        for scenario, provenance in table.provenance.items():
            print(f"{space}, {scenario}: {provenance}")
    print_diagnostics(doubtful_timings(ctx, wanted), {})
