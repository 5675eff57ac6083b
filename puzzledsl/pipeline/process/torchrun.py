"""Runs under `torchrun`: rank 0 executes the stages; the other ranks join the training that it announces."""

from __future__ import annotations

import os

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.tasks.eval import Uptrain


def is_follower() -> bool:
    """Return True on nonzero ranks."""
    return os.environ.get("RANK", "0") != "0"


def join_trainings(ctx: Context) -> bool:
    """Join the training that rank 0 announces until it is done. Return False after a diagnostic, which rank 0 shows."""
    from puzzledsl.uptrain.ranks import announced, leave, ranks_of, wait_for_the_end

    try:
        for name in announced(ranks_of()):
            Uptrain(ctx, name).run()
    except DiagnosticError:
        wait_for_the_end()  # torchrun stops all as soon as one fails: rank 0 speaks first
        return False
    leave()
    return True


def release_followers() -> None:
    """End the other ranks. Called by rank 0 after all work."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    from puzzledsl.uptrain.ranks import announce, leave, ranks_of

    announce(ranks_of(), None)
    leave()
