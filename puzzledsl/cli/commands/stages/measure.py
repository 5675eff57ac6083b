"""`pzl measure`: times of real blocks on this machine."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, OnOption, SetOption


def measure(
    file: FileArgument,
    spaces: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
) -> None:
    """Measure real blocks on this machine, for scenarios on `measured(...)` hardware.

    Each distinct block once, prefill and decode; then random whole children, to say how far sums of blocks are off. Writes
    costs/SPACE.measured.json, and costs/SPACE.measured.csv for `table(...)` hardware in other programs. Interrupt it at
    any moment: the same command goes on from there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.ir.tables import CostTable

    ctx = loading.context(file, set_, build)
    ctx.on = on
    for space in do_stage(ctx, "measure", spaces):
        table = ctx.load(ctx.build.measured_costs(space), CostTable, "measure", space)
        for scenario, provenance in table.provenance.items():
            print(f"{space}, {scenario}: {provenance}")
