"""Speed of real checkpoints in the engine of a hardware: parent and child in turn, each in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from puzzledsl.base.files import scratch
from puzzledsl.ir.nodes import Hardware
from puzzledsl.measure.whole import Samples, Workload
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.serving.blank import write_model
from puzzledsl.serving.clock import Bed, cache_bytes, in_turn


def time_in_engine(
    hardware: Hardware, workload: Workload, models: Sequence[Path], turns: int
) -> list[Samples]:
    """Time the models of directories in turn. Raises DiagnosticError: EngineAbsent, EngineFailed, what cannot be exported."""
    bed = Bed.of(hardware)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch("speed"))
        sessions = []
        for index, directory in enumerate(models):
            place = folder / str(index)
            place.mkdir()
            path = write_model(directory, bed.name, place, bed.spec.dtype)
            cache = cache_bytes(shape_of(load_config(directory)), workload, bed.stored)
            sessions.append(stack.enter_context(bed.load(path, workload, cache, f"`{directory.name}`")))
        return in_turn(sessions, workload, turns)
