"""Parent and child in third-party engines: equality, speed, and the files of the engine's own quantiser beside the child.

A child beside the files that its engine's own quantiser makes of the parent: speed against distance from the parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineCheck, EngineResult, EngineSpeed, Figure, Kept
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.curves import Curve, curve_of
from puzzledsl.report.sections.measured import POOLED, interval_text, number_of
from puzzledsl.report.subject import Subject


@dataclass(frozen=True)
class Equality:
    """One engine against the float64 reference; `said` where it gave no numbers."""

    engine: str
    version: str
    status: str
    delta: Number | None
    tokens: str
    said: str


@dataclass(frozen=True)
class Pair:
    """A figure of parent and child, and the child's over the parent's."""

    parent: Number
    child: Number
    change: Number
    good: bool


@dataclass(frozen=True)
class Speed:
    """Parent and child in one engine, in one dtype: bytes of weights, tokens a second of a prompt and of an answer."""

    engine: str
    dtype: str
    weights: Pair
    prefill: Pair
    decode: Pair


@dataclass(frozen=True)
class Engines:
    """One `pzl verify-export`: `text` is what the child wrote in llama.cpp's q8_0, where that was tried."""

    name: str
    equalities: tuple[Equality, ...]
    speeds: tuple[Speed, ...]
    workload: str
    text: str


def engines(found: Artefacts) -> tuple[Engines, ...]:
    """One entry for each child that was run elsewhere, in order of name."""
    return tuple(_engines(check) for _, check in sorted(found.engines.items()))


def _engines(check: EngineCheck) -> Engines:
    pairs: dict[tuple[str, str], dict[str, EngineSpeed]] = {}
    for speed in check.speeds:
        pairs.setdefault((speed.engine, speed.dtype), {})[speed.model] = speed
    rows = [_speed(pair["parent"], pair["child"]) for pair in pairs.values() if len(pair) == 2]
    texts = [s.text for s in check.speeds if s.model == "child" and s.dtype == "q8_0"]
    threads = f"{check.threads} thread{'s' * (check.threads > 1)}"
    return Engines(
        name=check.name,
        equalities=tuple(_equality(result) for result in check.results),
        speeds=tuple(rows),
        workload=f"one sequence, {check.prompt} + {check.output} tokens, {threads}" if rows else "",
        text=texts[0].strip() if texts else "",
    )


def _equality(result: EngineResult) -> Equality:
    delta = None if result.max_delta is None else numbers.plain(result.max_delta, 2)
    tokens = f"{result.same} of {result.tokens}" if result.tokens else ""
    title = RUNTIMES[result.engine].title
    return Equality(title, result.version, result.status, delta, tokens, result.reason)


def _speed(parent: EngineSpeed, child: EngineSpeed) -> Speed:
    return Speed(
        engine=RUNTIMES[parent.engine].title,
        dtype=parent.dtype,
        weights=_size(parent.weights_bytes, child.weights_bytes),
        prefill=_rate(parent.prefill_tokens_per_s, child.prefill_tokens_per_s),
        decode=_rate(parent.decode_tokens_per_s, child.decode_tokens_per_s),
    )


def _size(before: float, after: float) -> Pair:
    change = numbers.change(after / before - 1)
    return Pair(numbers.size(before), numbers.size(after), change, after <= before)


def _rate(before: float, after: float) -> Pair:
    return Pair(numbers.rate(before), numbers.rate(after), numbers.times(after / before), after >= before)


@dataclass(frozen=True)
class FileRow:
    """A file, or the child. `interval`: of the accuracy kept."""

    name: str
    is_child: bool
    size: Number
    speed: Number
    kl: Number
    kept: Number | None
    interval: str


@dataclass(frozen=True)
class LadderTable:
    """All files of an evaluation, from slow to fast. `picture`: their speeds in `scenario` and divergences, with some names."""

    engine: str
    evaluation: str
    scenario: str
    rows: tuple[FileRow, ...]
    picture: Curve


def ladders(subject: Subject) -> Iterator[LadderTable]:
    """Yield the ladder of each evaluation that measured one."""
    for declaration, evaluation in subject.evaluations:
        ladder = evaluation.ladder
        own = {} if ladder is None else subject.figures(evaluation, ladder.child)
        key = next((key for key in own if key.endswith(".throughput")), None)
        if ladder is None or key is None:
            continue
        own = own | {"checkpoint_bytes": Figure(value=ladder.child_bytes, unit="bytes")}
        figures = {ladder.child: own} | {model.model: model.figures for model in ladder.models}
        kept = {each.model: each.kept.get(POOLED) for each in (*evaluation.comparisons, *ladder.comparisons)}
        timed = sorted(
            (name for name in figures if key in figures[name]), key=lambda n: figures[n][key].value
        )
        places = {name: (figures[name][key].value, figures[name]["kl"].value) for name in timed}
        files = {name: place for name, place in places.items() if name != ladder.child}
        named = {ladder.child, *(name for name in files if _on_front(name, files))}
        shown = [(name if name in named else "", *places[name]) for name in timed]
        yield LadderTable(
            ladder.engine,
            declaration.name,
            key.rpartition(".")[0],
            tuple(_row(name, name == ladder.child, figures[name], key, kept[name]) for name in timed),
            curve_of(
                f"ladder-{declaration.name}",
                f"{key}, tok/s",
                "KL divergence to the parent",
                [],
                shown,
                main=ladder.child,
                unit="tok/s",
            ),
        )


def _on_front(name: str, places: Mapping[str, tuple[float, float]]) -> bool:
    """Return True for a file that no other is faster and nearer than: the picture names these, and the table all."""
    speed, loss = places[name]
    return not any(other_speed > speed and other < loss for other_speed, other in places.values())


def _row(name: str, is_child: bool, found: dict[str, Figure], key: str, kept: Kept | None) -> FileRow:
    share = None if kept is None or kept.chance_corrected is None else numbers.share(kept.chance_corrected)
    size = number_of("checkpoint_bytes", found["checkpoint_bytes"])
    interval = "" if kept is None else interval_text(kept)
    return FileRow(
        name, is_child, size, number_of(key, found[key]), number_of("kl", found["kl"]), share, interval
    )
