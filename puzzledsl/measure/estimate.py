"""Rounds of one scenario at one batch, and the time of each alternative and kind of layer that follows from them.

The model: the time of alternative a in forward f is cost(a) * slowness(f), where slowness is whatever the machine was
doing at that moment. Both are found in turn, as lower deciles, so that neither a slow forward nor an interrupted
sub-block counts; every forward holds many alternatives, so all are compared with each other in the same moment.
What interruptions cost on the whole is in `scale`.

A sub-block's time is from its layer's start (or the end of the attention sub-block) to its residual addition. The rest
(embedding, mask, rotary table, cache, final norm, head, token selection) is the fixed part. Rounds are kept in files, so that
an interrupted run resumes.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Generic, Self, TypeVar

import torch

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.base.files import write_sealed
from puzzledsl.base.frozen import Frozen, Record, left_out
from puzzledsl.ir.nodes import Space
from puzzledsl.measure.host import Arrangement, Host, Key, balanced, kind_of, parent_beside, random_child
from puzzledsl.measure.stopwatch import Stopwatch, spread, stopwatch_for, undisturbed
from puzzledsl.measure.whole import Forward, Samples, WholeTimer, Workload
from puzzledsl.models.families.access import entrance, layers, part_of

Laps = Sequence[float]
"""Seconds of the parts of one pass: before the layers, attention, FFN, attention, FFN …, after the layers."""


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
    """Return the laps of one prefill, and of each step of a decode window, with the host's layers in an arrangement."""
    host.arrange(arrangement)
    forward = Forward(host.model, workload)
    with marked(host, watch):
        prefill = watch.prepare(forward.prefill)()
        forward.lengthen()
        step = watch.prepare(forward.decode_step)
        return prefill, [step() for _ in range(workload.window)]


class Phase(Frozen):
    """One phase (prefill or decode) of a round: seconds of the whole parent, and laps of the arrangement, one entry a pass."""

    parent: tuple[float, ...]
    laps: tuple[tuple[float, ...], ...]


class Round(Frozen):
    """One arrangement, measured together with the whole parent."""

    seed: int
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    prefill: Phase
    decode: Phase


SWEEPS = 8

Observations = list[tuple[Key, float]]
FIXED: Key = (None, "fixed")


class Estimate(Record):
    """Seconds a forward: of each alternative and of the fixed part, scaled so that the parent's parts add up to `parent_s`.

    `scale`: time of the whole parent / sum of its parts before scaling. `stderr`: standard error of each time, in seconds.
    """

    seconds: dict[Key, float]
    stderr: dict[Key, float]
    parent_s: float
    scale: float

    def sum_of(self, attention: Iterable[str], ffn: Iterable[str], ends: str = "") -> float:
        """Return a child's predicted seconds, from the labels of its layers; `ends`: its choice of both ends, if it has one."""
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
    """Return the times of one phase, which `phase` takes from a round, estimated from at least one round."""
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
    found: Observations = [(FIXED, laps[0] + laps[-1])]
    found += [(("attention", name), s) for name, s in zip(r.attention, laps[1:-1:2], strict=True)]
    return found + [(("ffn", name), s) for name, s in zip(r.ffn, laps[2:-1:2], strict=True)]


def _by_key(forwards: Iterable[Observations], slowness: Iterable[float]) -> dict[Key, list[float]]:
    found: dict[Key, list[float]] = defaultdict(list)
    for forward, slow in zip(forwards, slowness, strict=True):
        for key, value in forward:
            found[key].append(value / slow)
    return found


def _usual_seconds(forwards: Iterable[Observations], slowness: Iterable[float]) -> dict[Key, float]:
    """Return each part's lower decile; of the fixed part the least: it is long, so most of its few times are interrupted."""
    by_key = _by_key(forwards, slowness)
    return {key: min(values) if key == FIXED else undisturbed(values) for key, values in by_key.items()}


def _slowness(forward: Observations, seconds: dict[Key, float]) -> float:
    """Return the lower decile of measured / usual time over a forward's blocks, weighted by usual time; 1 without any."""
    ratios = sorted(
        (value / seconds[key], seconds[key]) for key, value in forward if key != FIXED and seconds[key] > 0
    )
    enough, seen = sum(weight for _, weight in ratios) / 10, 0.0
    for ratio, weight in ratios:
        seen += weight
        if seen >= enough:
            return ratio
    return 1.0


ROUNDS = 8
CHECKED_CHILDREN = 3
CHECK_ROUNDS = 4


class Check(Frozen):
    """A whole child: undisturbed seconds a forward of parent and child, measured in turn."""

    seed: int
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    parent_prefill_s: float
    child_prefill_s: float
    parent_decode_s: float
    child_decode_s: float
    ends: str = left_out("")

    @classmethod
    def of(cls, seed: int, child: Arrangement, of_parent: Samples, of_child: Samples, ends: str = "") -> Self:
        """Return the check of a child from the times of both models."""
        return cls(
            seed=seed,
            attention=child["attention"],
            ffn=child["ffn"],
            parent_prefill_s=undisturbed(of_parent.prefill),
            child_prefill_s=undisturbed(of_child.prefill),
            parent_decode_s=undisturbed(of_parent.decode),
            child_decode_s=undisturbed(of_child.decode),
            ends=ends,
        )

    def latency_speed_up(self, output: int) -> float:
        """Measured latency of the parent / the child's, for `output` tokens."""
        parent = self.parent_prefill_s + output * self.parent_decode_s
        return parent / (self.child_prefill_s + output * self.child_decode_s)


def rounds_needed(kinds: Sequence[int], alternatives: Mapping[SubBlock, Collection[str]]) -> int:
    """Return how many rounds, at least ROUNDS, time each of the labels in ROUNDS layers of its kind. `kinds`: each layer's."""
    depths = Counter(kinds)
    return max(
        ROUNDS,
        *(
            -(-ROUNDS * count // depths[kind])
            for labels in alternatives.values()
            for kind, count in Counter(map(kind_of, labels)).items()
        ),
    )


class Timer:
    """Timer of the rounds and checks of one workload on one host. Rounds with other seeds have other arrangements."""

    def __init__(self, host: Host, space: Space, workload: Workload) -> None:
        self._host, self._space, self._workload = host, space, workload
        self._is_warm = False

    @cached_property
    def _watch(self) -> Stopwatch:
        return stopwatch_for(self._host.model.device)

    @cached_property
    def _parent(self) -> WholeTimer:
        """The timer of the parent."""
        return WholeTimer(self._host.model, self._workload)

    def round(self, seed: int) -> Round:
        """Measure one arrangement and the parent beside it."""
        host, parent = self._host, self._parent
        arrangement = balanced(host.alternatives, host.kinds, seed)
        # run the parent and an arrangement once, which allocates what they need
        if not self._is_warm:
            host.arrange(host.parent())
            parent.round(keep=False)
            time_laps(host, arrangement, self._workload, self._watch)
            self._is_warm = True
        host.arrange(host.parent())
        parent_prefill_s, parent_decode_s = parent.round()
        prefill, decode = time_laps(host, arrangement, self._workload, self._watch)
        return Round(
            seed=seed,
            attention=arrangement["attention"],
            ffn=arrangement["ffn"],
            prefill=Phase(parent=(parent_prefill_s,), laps=(tuple(prefill),)),
            decode=Phase(parent=tuple(parent_decode_s), laps=tuple(map(tuple, decode))),
        )

    def check(self, seed: int) -> Check:
        """Measure a random child of the space in turn with the parent, after a warm-up of both."""
        host, child = self._host, random_child(self._space, self._host.kinds, seed)
        timers = [(each, WholeTimer(host.model, self._workload)) for each in (host.parent(), child)]
        for turn in range(CHECK_ROUNDS + 1):
            for arrangement, timer in timers:
                host.arrange(arrangement)
                timer.round(keep=turn > 0)
        (_, parent), (_, own) = timers
        return Check.of(seed, child, parent.samples, own.samples)


def speed_up_errors(
    checks: list[Check], prefill: Estimate, decode: Estimate, output: int
) -> Iterator[tuple[float, float, float]]:
    """Yield predicted / measured speed-up - 1 of each checked child: in prefill, a decode step, latency of `output` tokens."""
    for check in checks:
        predicted_prefill = prefill.sum_of(check.attention, check.ffn, check.ends)
        predicted_decode = decode.sum_of(check.attention, check.ffn, check.ends)
        predicted_latency = (prefill.parent_s + output * decode.parent_s) / (
            predicted_prefill + output * predicted_decode
        )
        yield (
            prefill.parent_s / predicted_prefill * check.child_prefill_s / check.parent_prefill_s - 1,
            decode.parent_s / predicted_decode * check.child_decode_s / check.parent_decode_s - 1,
            predicted_latency / check.latency_speed_up(output) - 1,
        )


T = TypeVar("T", Round, Check)


class Unfinished(Generic[T]):
    """Rounds or checks of unfinished work, each in a file beside `path`."""

    def __init__(self, path: Path, kind: type[T], wanted: int) -> None:
        """Read the files that exist; damaged ones count as `missing`. `wanted`: number of seeds, counted from 0."""
        self._path = path
        read = {seed: kind.of_sealed(self._file(seed)) for seed in range(wanted)}
        self.done: dict[int, T] = {seed: item for seed, item in read.items() if item is not None}
        self.missing = [seed for seed in range(wanted) if seed not in self.done]

    def add(self, item: T) -> None:
        """Keep one more; on return it is on the disk."""
        self.done[item.seed] = item
        write_sealed(self._file(item.seed), item.canonical_json())

    def all(self) -> list[T]:
        """Return what is measured, by ascending seed."""
        return [self.done[seed] for seed in sorted(self.done)]

    def _file(self, seed: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{seed}.json")
