"""Rounds of measurements -> one time an alternative and kind of layer. Numbers in, numbers out.

The model: the time of alternative a in forward f is cost(a) * slowness(f), where slowness is whatever the machine was
doing at that moment. Both are found in turn, as lower deciles, so that neither a slow forward nor an interrupted
sub-block counts; every forward holds many alternatives, so all are compared with each other in the same moment.
What interruptions cost on the whole is in `scale`.

Times of all sub-blocks in one forward pass of a whole model.

A sub-block's time is from its layer's start (or the end of the attention sub-block) to its residual addition: the
norm, the module and the addition, exactly as the child executes them. The rest (embedding, mask, rotary table, cache,
final norm, head, token selection) is the fixed part.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.frozen import Frozen
from puzzledsl.measure.host import SUB_BLOCKS, Arrangement, Host, Part, parent_beside
from puzzledsl.measure.stopwatch import Stopwatch, spread, undisturbed
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


SWEEPS = 8

Key = tuple[Part | None, str]
Observations = list[tuple[Key, float]]
FIXED: Key = (None, "fixed")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds a forward: of each alternative and of the fixed part, scaled so that the parent's blocks add up to `parent_s`.

    `scale` is the measured whole parent / the sum of its blocks as measured. `stderr` in seconds, of each.
    """

    seconds: dict[Key, float]
    stderr: dict[Key, float]
    parent_s: float
    scale: float

    def sum_of(self, attention: Iterable[str], ffn: Iterable[str], ends: str = "") -> float:
        """The predicted seconds of a child; `ends`: the name of both of its ends, where these have a choice."""
        keys: list[Key] = [*(("attention", a) for a in attention), *(("ffn", f) for f in ffn)]
        return self.seconds[("ends", ends) if ends else FIXED] + sum(self.seconds[key] for key in keys)

    @property
    def relative_spread(self) -> dict[str, float]:
        """Standard error of each part as a share of its time, by names such as `attention.gqa1` and `fixed`."""
        return {
            ".".join(filter(None, key)): round(self.stderr[key] / value, 4) if value else 0.0
            for key, value in self.seconds.items()
        }


def estimate(rounds: Sequence[Round], phase: Callable[[Round], Phase]) -> Estimate:
    """The times of one phase, from at least one round."""
    forwards = [[_observations(r, laps) for laps in phase(r).laps] for r in rounds]
    flat = list(chain.from_iterable(forwards))
    slowness = [1.0] * len(flat)
    seconds = _usual_seconds(flat, slowness)
    for _ in range(SWEEPS):
        raw = [_slowness(forward, seconds) for forward in flat]
        usual = statistics.median(raw)
        slowness = [s / usual for s in raw]
        seconds = _usual_seconds(flat, slowness)
    stderr = {key: spread(values) for key, values in _by_key(flat, slowness).items()}

    at = 0
    parents: list[float] = []
    for r, own in zip(rounds, forwards, strict=True):
        slow = statistics.median(slowness[at : at + len(own)])
        parents += [seconds_of_parent / slow for seconds_of_parent in phase(r).parent]
        at += len(own)
    parent_s = undisturbed(parents)
    kinds = Counter(parent_beside(name) for name in rounds[0].attention)
    blocks = sum(depth * sum(seconds[s, own] for s in SUB_BLOCKS) for own, depth in kinds.items())
    scale = parent_s / (seconds[FIXED] + blocks)
    return Estimate(
        {key: value * scale for key, value in seconds.items()},
        {key: value * scale for key, value in stderr.items()},
        parent_s,
        scale,
    )


def _observations(r: Round, laps: Laps) -> Observations:
    found: Observations = [(FIXED, laps.fixed)]
    for sub_block in SUB_BLOCKS:
        found += [((sub_block, n), s) for n, s in zip(r.names(sub_block), laps.of(sub_block), strict=True)]
    return found


def _by_key(forwards: Iterable[Observations], slowness: Iterable[float]) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = defaultdict(list)
    for forward, slow in zip(forwards, slowness, strict=True):
        for key, value in forward:
            found[key].append(value / slow)
    return found


def _usual_seconds(forwards: Iterable[Observations], slowness: Iterable[float]) -> dict[Key, float]:
    """The fixed part is long, so that on a busy machine nearly all of its few times are interrupted: the shortest counts."""
    by_key = _by_key(forwards, slowness)
    return {key: min(values) if key == FIXED else undisturbed(values) for key, values in by_key.items()}


def _slowness(forward: Observations, seconds: dict[Key, float]) -> float:
    """The lower decile of measured / usual over a forward's blocks, each counted by its usual time."""
    ratios = sorted(
        (value / seconds[key], seconds[key]) for key, value in forward if key != FIXED and seconds[key] > 0
    )
    enough, seen = sum(weight for _, weight in ratios) / 10, 0.0
    for ratio, weight in ratios:
        seen += weight
        if seen >= enough:
            return ratio
    return 1.0
