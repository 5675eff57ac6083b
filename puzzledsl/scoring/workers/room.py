"""Choice of what a worker has: the whole parent, or, if that does not fit, a span of its layers in a team with others."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from puzzledsl.cluster.tasks import Task, TeamSpec
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.models.placement import SHARE, free_bytes, placement, weights_bytes
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.replacements import Replacement, Run
from puzzledsl.scoring.workers.spans import ParentInSpans, balanced
from puzzledsl.scoring.workers.whole import WholeParent, sent

SMALL_BYTES = 1 << 31
"""Weights, in float32, that any worker has room for."""


@dataclass(frozen=True)
class Asked:
    """A worker that is asked for its room, and the maker of it."""

    inputs: ScoreInputs

    def __call__(self, member: int) -> Asked:
        """Return the worker's object."""
        return self

    def spans_needed(self) -> int:
        """Return the number of workers like this one that can hold the parent together."""
        device, dtype = placement(self.inputs.parent_dir)
        room = SHARE * free_bytes(device)
        if device.type == "cpu":
            room /= os.cpu_count() or 1  # other workers on this machine need as much
        return max(1, math.ceil(weights_bytes(self.inputs.parent_dir, dtype) / room))


def tasks_for(
    inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]
) -> WholeParent | ParentInSpans:
    """Return the tasks of a score, for workers with as much of the parent as fits.

    Healing looks at several layers at once, so it always has the whole parent, read layer by layer if it does not fit.
    """
    there = sent(inputs)
    needed = 1 if inputs.method.healed else _spans_needed(there, inputs)
    if needed == 1:
        return WholeParent(there, todo, runs)
    layers = balanced(shape_of(load_config(inputs.parent_dir)), todo, runs, needed)
    text = f"the parent does not fit into a worker: teams of {len(layers)} workers have {layers[0][1]} layers and fewer each"
    inputs.progress.log("spans", text=text, layers=layers)
    return ParentInSpans(there, todo, runs, layers)


def _spans_needed(there: ScoreInputs, inputs: ScoreInputs) -> int:
    import torch

    if weights_bytes(inputs.parent_dir, torch.float32) <= SMALL_BYTES:
        return 1
    with inputs.executor.open(TeamSpec(Asked(there)), inputs.progress) as teams:
        ((_, needed),) = teams.run([Task.call("room", "spans_needed")])
    return int(needed)
