"""`pzl realise`: a child's checkpoint."""

from __future__ import annotations

from puzzledsl.cli.commands.stages.one_stage import do_stage
from puzzledsl.cli.options import BuildOption, FileArgument, HealOption, NamesArgument, OnOption, SetOption


def realise(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    heal: HealOption = True,
    on: OnOption = None,
) -> None:
    """Assemble the child of a solved search and heal it: a checkpoint directory that transformers loads. Writes models/SEARCH/.

    Healing fits the last weights of every sub-block again, so that the child's hidden states follow the parent's.
    """
    from puzzledsl.cli import loading

    ctx = loading.context(file, set_, build)
    ctx.heal, ctx.on = heal, on
    do_stage(ctx, "realise", searches)
