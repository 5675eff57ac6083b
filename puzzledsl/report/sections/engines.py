"""Parent and child in third-party engines: equality of their outputs with a reference, and their speed."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineCheck, EngineResult, EngineSpeed
from puzzledsl.report import numbers
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.numbers import Number


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
