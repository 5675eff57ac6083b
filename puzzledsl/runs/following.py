"""Under `torchrun`: rank 0 is the one that runs stages; the other processes do their part of the training it announces."""

from __future__ import annotations

import os

from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.runs import tasks
from puzzledsl.runs.context import Context


def follows() -> bool:
    """Whether this process is another than rank 0."""
    return os.environ.get("RANK", "0") != "0"


def follow(ctx: Context) -> bool:
    """Train what rank 0 announces, until it has done all. False where training ended in a diagnostic, which rank 0 shows."""
    from puzzledsl.uptrain.ranks import announced, leave, ranks_of, wait_for_the_end

    try:
        for name in announced(ranks_of()):
            tasks.uptrain(ctx, name).run()
    except DiagnosticError:
        wait_for_the_end()  # torchrun stops all as soon as one fails: rank 0 speaks first
        return False
    leave()
    return True


def dismiss() -> None:
    """Rank 0, when all is done: let the others end."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    from puzzledsl.uptrain.ranks import announce, leave, ranks_of

    announce(ranks_of(), None)
    leave()
