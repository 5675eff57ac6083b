"""Rounds of measurements of one scenario at one batch, kept in a file so that an interrupted run resumes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

from pydantic import ValidationError

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.checksums import sealed_line, unsealed_line
from puzzledsl.base.files import write_text
from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.nodes import Space
from puzzledsl.measure.estimate import Estimate, Phase, Round, time_laps
from puzzledsl.measure.host import Arrangement, Host, kind_of, random_child
from puzzledsl.measure.stopwatch import Stopwatch, stopwatch_for, undisturbed
from puzzledsl.measure.whole import WholeTimer, Workload

ROUNDS = 8
CHECKED_CHILDREN = 3
CHECK_ROUNDS = 4


class Check(Frozen):
    """A random whole child: undisturbed seconds a forward of parent and child, measured in turn."""

    seed: int
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    parent_prefill_s: float
    child_prefill_s: float
    parent_decode_s: float
    child_decode_s: float
    ends: str = left_out("")

    def latency_speed_up(self, output: int) -> float:
        """Measured latency of the parent / the child's, for `output` tokens."""
        parent = self.parent_prefill_s + output * self.parent_decode_s
        return parent / (self.child_prefill_s + output * self.child_decode_s)


class Seeded(Protocol):
    """A measurement that a seed names."""

    @property
    def seed(self) -> int:
        """The seed."""

    def model_dump_json(self) -> str:
        """Return it as JSON."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it."""


T = TypeVar("T", bound=Seeded)


def rounds_needed(kinds: Sequence[int], alternatives: Mapping[SubBlock, Collection[str]]) -> int:
    """Return the number of rounds in which every alternative is timed in at least `ROUNDS` layers of its kind in all.

    `kinds`: of the layers. `alternatives`: their labels.
    """
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

    def _warm_up(self, seed: int) -> None:
        """Run the parent and an arrangement once, which allocates what they need."""
        if not self._is_warm:
            self._host.arrange(self._host.parent())
            self._parent.round(keep=False)
            time_laps(self._host, self._host.balanced(seed), self._workload, self._watch)
            self._is_warm = True

    def round(self, seed: int) -> Round:
        """Measure one arrangement and the parent beside it."""
        host, parent = self._host, self._parent
        self._warm_up(seed)
        host.arrange(host.parent())
        parent_prefill_s, parent_decode_s = parent.round()
        arrangement = host.balanced(seed)
        prefill, decode = time_laps(host, arrangement, self._workload, self._watch)
        return Round(
            seed=seed,
            attention=arrangement["attention"],
            ffn=arrangement["ffn"],
            prefill=Phase(parent=(parent_prefill_s,), laps=(prefill,)),
            decode=Phase(parent=tuple(parent_decode_s), laps=tuple(decode)),
        )

    def check(self, seed: int, turns: int | None = None) -> Check:
        """Measure a random child of the space in turn with the parent, `turns` times after a warm-up of both."""
        child = random_child(self._space, self._host.kinds, seed)
        return measure_check(self._host, child, self._workload, seed, turns or CHECK_ROUNDS)


def measure_check(host: Host, child: Arrangement, workload: Workload, seed: int, turns: int) -> Check:
    """Measure one child in turn with the parent, `turns` times after a warm-up of both."""
    timers = [(arrangement, WholeTimer(host.model, workload)) for arrangement in (host.parent(), child)]
    for turn in range(turns + 1):
        for arrangement, timer in timers:
            host.arrange(arrangement)
            timer.round(keep=turn > 0)
    (_, parent), (_, own) = timers
    return Check(
        seed=seed,
        attention=child["attention"],
        ffn=child["ffn"],
        parent_prefill_s=undisturbed(parent.samples.prefill),
        child_prefill_s=undisturbed(own.samples.prefill),
        parent_decode_s=undisturbed(parent.samples.decode),
        child_decode_s=undisturbed(own.samples.decode),
    )


def speed_up_errors(
    checks: list[Check], prefill: Estimate, decode: Estimate, output: int
) -> Iterator[tuple[float, float, float]]:
    """Return predicted speed-up / measured speed-up - 1 of each checked child: in prefill, a decode step and latency."""
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


def mean_size(errors: list[float]) -> float:
    """Return the mean absolute value; 0 for none."""
    return statistics.fmean(map(abs, errors)) if errors else 0.0


class Unfinished(Generic[T]):
    """A file of rounds or checks of unfinished work, in the order of their seeds."""

    def __init__(self, path: Path, kind: type[T], wanted: int) -> None:
        """Read the intact lines up to the first damaged one; the rest is measured again. `wanted`: number of seeds, from 0."""
        self._path = path
        self.done: dict[int, T] = {item.seed: item for item in _read(path, kind) if item.seed < wanted}
        self.missing = [seed for seed in range(wanted) if seed not in self.done]

    def add(self, item: T) -> None:
        """Keep one more; on return it is on the disk."""
        self.done[item.seed] = item
        write_text(self._path, "".join(sealed_line(each.model_dump_json()) for each in self.all()))

    def all(self) -> list[T]:
        """Return what is measured, by ascending seed."""
        return [self.done[seed] for seed in sorted(self.done)]


def _read(path: Path, kind: type[T]) -> list[T]:
    """Return the intact lines up to the first damaged one; the rest is measured again."""
    found: list[T] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            text = unsealed_line(line)
            try:
                if text is None:
                    break
                found.append(kind.from_json(text))
            except ValidationError:
                break
    return found
