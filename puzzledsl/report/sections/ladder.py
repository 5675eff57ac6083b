"""A child beside the files that its engine's own quantiser makes of the parent: speed against distance from the parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from puzzledsl.ir.tables import Figure, Kept
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.pictures.curves import Curve, curve_of
from puzzledsl.report.sections.kept import POOLED, interval_text
from puzzledsl.report.sections.measured import number_of
from puzzledsl.report.subject import Subject


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
