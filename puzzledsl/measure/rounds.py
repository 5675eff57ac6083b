"""Rounds of measurements of one scenario at one batch, kept in a file so that an interrupted run resumes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from puzzledsl.base.checksums import sealed_line, unsealed_line
from puzzledsl.base.files import write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Space
from puzzledsl.measure.estimate import Estimate
from puzzledsl.measure.host import Arrangement, Host, kind_of, random_child
from puzzledsl.measure.laps import Phase, Round, time_laps
from puzzledsl.measure.stopwatch import stopwatch_for, undisturbed
from puzzledsl.measure.whole import WholeTimer, Workload

ROUNDS = 8
CHECKED_CHILDREN = 3
CHECK_ROUNDS = 4

T = TypeVar("T", bound=Frozen)


class Check(Frozen):
    """A random whole child: undisturbed seconds a forward of parent and child, measured in turn."""

    seed: int
    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    parent_prefill_s: float
    child_prefill_s: float
    parent_decode_s: float
    child_decode_s: float

    def latency_speed_up(self, output: int) -> float:
        """Measured latency of the parent / the child's, for `output` tokens."""
        parent = self.parent_prefill_s + output * self.parent_decode_s
        return parent / (self.child_prefill_s + output * self.child_decode_s)


def rounds_needed(host: Host) -> int:
    """Return the number of rounds in which every alternative is timed in at least `ROUNDS` layers of its kind in all."""
    depths = Counter(host.kinds)
    return max(
        ROUNDS,
        *(
            -(-ROUNDS * alternatives // depths[kind])
            for labels in host.alternatives.values()
            for kind, alternatives in Counter(map(kind_of, labels)).items()
        ),
    )


def measure_rounds(host: Host, workload: Workload, partial: Path, progress: Progress) -> list[Round]:
    """Measure all rounds of a workload; those in `partial` are not measured again."""
    wanted = rounds_needed(host)
    done = _read(partial, Round)[:wanted]
    progress.advance(len(done))
    if len(done) < wanted:
        parent, watch = WholeTimer(host.model, workload), stopwatch_for(host.model.device)
        host.arrange(host.parent())
        parent.round(keep=False)
        time_laps(host, host.balanced(len(done)), workload, watch)  # warm-up: allocates what it needs
    for seed in range(len(done), wanted):
        host.arrange(host.parent())
        parent_prefill_s, parent_decode_s = parent.round()
        arrangement = host.balanced(seed)
        prefill, decode = time_laps(host, arrangement, workload, watch)
        done.append(
            Round(
                seed=seed,
                attention=arrangement["attention"],
                ffn=arrangement["ffn"],
                prefill=Phase(parent=(parent_prefill_s,), laps=(prefill,)),
                decode=Phase(parent=tuple(parent_decode_s), laps=tuple(decode)),
            )
        )
        _write(partial, done)
        progress.advance(
            parent_prefill_ms=round(1e3 * parent_prefill_s, 1),
            parent_step_ms=round(1e3 * undisturbed(parent_decode_s), 2),
        )
    return done


def measure_checks(
    host: Host,
    space: Space,
    workload: Workload,
    partial: Path,
    progress: Progress,
    children: int = CHECKED_CHILDREN,
    turns: int | None = None,
) -> list[Check]:
    """Measure random children of the space, each in turn with the parent; those in `partial` are not measured again."""
    done = _read(partial, Check)[:children]
    progress.advance(len(done))
    for seed in range(len(done), children):
        done.append(
            measure_check(host, random_child(space, host.kinds, seed), workload, seed, turns or CHECK_ROUNDS)
        )
        _write(partial, done)
        progress.advance()
    return done


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
        predicted_prefill = prefill.sum_of(check.attention, check.ffn)
        predicted_decode = decode.sum_of(check.attention, check.ffn)
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


def _write(path: Path, items: list[T]) -> None:
    write_text(path, "".join(sealed_line(item.model_dump_json()) for item in items))
