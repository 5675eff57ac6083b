"""`pzl score`: replace-1-block scores."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, NamesArgument, OnOption, SetOption


def score(
    file: FileArgument,
    names: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    on: OnOption = None,
) -> None:
    """Score every piece: replace one block of the parent and compare outputs. Writes scores/NAME.json."""
    from puzzledsl.cli import loading

    ctx = loading.context(file, set_, build)
    ctx.on = on
    do_stage(ctx, "score", names)
