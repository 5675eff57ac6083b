"""`pzl bld`: the block library."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, OnOption, SetOption


def bld(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
) -> None:
    """Make the pieces: initialise every alternative from the parent and train each alone against the parent's sub-block.

    Finished pieces stay in library/ and are never made twice.
    """
    from puzzledsl.cli import loading

    ctx = loading.context(file, set_, build)
    ctx.on = on
    do_stage(ctx, "bld", names)
