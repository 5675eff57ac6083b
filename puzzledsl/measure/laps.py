"""Times of all sub-blocks in one forward pass of a whole model.

A sub-block's time is from its layer's start (or the end of the attention sub-block) to its residual addition: the
norm, the module and the addition, exactly as the child executes them. The rest (embedding, mask, rotary table, cache,
final norm, head, token selection) is the fixed part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.frozen import Frozen
from puzzledsl.measure.host import Arrangement, Host
from puzzledsl.measure.stopwatch import Stopwatch
from puzzledsl.measure.whole import Forward, Workload
from puzzledsl.models.families.access import entrance, layers, part_of


class Laps(Frozen):
    """Seconds of one forward pass: one number per layer for each sub-block, and the fixed part."""

    attention: tuple[float, ...]
    ffn: tuple[float, ...]
    fixed: float

    def of(self, sub_block: SubBlock) -> tuple[float, ...]:
        """Return the sub-block's seconds in every layer."""
        return self.attention if sub_block == "attention" else self.ffn


def laps_from(stretches: list[float]) -> Laps:
    """Group the times of one pass: before the layers, attention, FFN, attention, FFN …, after the layers."""
    return Laps(
        attention=tuple(stretches[1:-1:2]), ffn=tuple(stretches[2:-1:2]), fixed=stretches[0] + stretches[-1]
    )


@contextmanager
def marked(host: Host, watch: Stopwatch) -> Iterator[None]:
    """Context in which the model records a lap wherever a sub-block begins or ends."""

    def mark(*_: object) -> None:
        watch.lap()

    decoder = list(layers(host.model))
    handles = [layer.register_forward_pre_hook(mark) for layer in decoder]
    for layer in decoder:
        if part_of(layer, "ffn") is None:
            handles.append(layer.register_forward_hook(mark))  # its FFN takes no time
        else:
            handles.append(entrance(layer, "ffn").register_forward_pre_hook(mark))
    handles.append(decoder[-1].register_forward_hook(mark))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def time_laps(
    host: Host, arrangement: Arrangement, workload: Workload, watch: Stopwatch
) -> tuple[Laps, list[Laps]]:
    """Time one prefill and each step of a window of decode steps, with the host in an arrangement."""
    host.arrange(arrangement)
    forward = Forward(host.model, workload)
    with marked(host, watch):
        prefill = laps_from(watch.prepare(forward.prefill)())
        forward.lengthen()
        step = watch.prepare(forward.decode_step)
        return prefill, [laps_from(step()) for _ in range(workload.window)]


class Phase(Frozen):
    """Measurements of one phase (prefill or decode) in a round: seconds of the whole parent, and laps of the arrangement."""

    parent: tuple[float, ...]
    laps: tuple[Laps, ...]


class Round(Frozen):
    """One arrangement, measured together with the whole parent."""

    seed: int
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    prefill: Phase
    decode: Phase

    def names(self, sub_block: SubBlock) -> tuple[str, ...]:
        """Return the alternative of every layer."""
        return self.attention if sub_block == "attention" else self.ffn
