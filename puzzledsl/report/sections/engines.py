"""Parent and child in third-party engines, and beside the files that an engine's own quantiser makes of the parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from puzzledsl.ir.tables import EngineCheck, EngineSpeed, Figure, Kept, Ladder
from puzzledsl.report.pictures.curves import Curve, curve_of
from puzzledsl.report.sections.measured import POOLED
from puzzledsl.report.subject import Subject


def speed_pairs(check: EngineCheck) -> list[tuple[EngineSpeed, EngineSpeed]]:
    """Return parent and child in each engine and type in which both were timed."""
    pairs: dict[tuple[str, str], dict[str, EngineSpeed]] = {}
    for speed in check.speeds:
        pairs.setdefault((speed.engine, speed.dtype), {})[speed.model] = speed
    return [(pair["parent"], pair["child"]) for pair in pairs.values() if len(pair) == 2]


@dataclass(frozen=True)
class LadderTable:
    """All files of an evaluation, from slow to fast, with their `figures`, of which `key` is the speed, and the accuracy `kept`.

    `picture`: their speeds and divergences, with some names.
    """

    ladder: Ladder
    evaluation: str
    key: str
    figures: Mapping[str, Mapping[str, Figure]]
    kept: Mapping[str, Kept | None]
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
        picture = curve_of(
            f"ladder-{declaration.name}",
            f"{key}, tok/s",
            "KL divergence to the parent",
            [],
            shown,
            main=ladder.child,
            unit="tok/s",
        )
        yield LadderTable(ladder, declaration.name, key, {n: figures[n] for n in timed}, kept, picture)


def _on_front(name: str, places: Mapping[str, tuple[float, float]]) -> bool:
    """Return True for a file that no other is faster and nearer than: the picture names these, and the table all."""
    speed, loss = places[name]
    return not any(other_speed > speed and other < loss for other_speed, other in places.values())
