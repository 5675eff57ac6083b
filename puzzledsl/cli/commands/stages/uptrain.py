"""`pzl uptrain`: global knowledge distillation of a child."""

from __future__ import annotations

import typer

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, SetOption


def uptrain(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
) -> None:
    """Train a child against the parent (global knowledge distillation). Writes models/NAME/.

    On several GPUs: `torchrun --nproc-per-node 8 -m puzzledsl.cli.main uptrain FILE`; parent and child are then sharded
    (FSDP2). Interrupt it at any moment: the same command goes on from there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.pipeline.process.torchrun import is_follower, join_trainings, release_followers

    ctx = loading.context(file, set_, build)
    if is_follower():
        if not join_trainings(ctx):
            raise typer.Exit(1)
        return
    do_stage(ctx, "uptrain", names)
    release_followers()
