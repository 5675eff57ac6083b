"""Stages that must run again: those of changed declarations, and those that depend on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from puzzledsl.changes.model import Pieces
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Frozen
from puzzledsl.ir.evaluated import evaluations_of
from puzzledsl.ir.references import references


def stages_again(
    program: nodes.Program,
    touched: set[str],
    pieces: Mapping[str, Pieces],
    refined: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """(stage, declaration) in the order of a run. A `bld` runs again only for pieces that were not made before.

    `refined`: searches in which nothing but `refine` changed, frontiers in which nothing but `children` did. They are not solved
    again.
    """
    stale = _resting_on(program, touched - set(refined))
    yield from (("measure", name) for name in program.spaces if _measured_again(program, name, stale))
    yield from (("bld", name) for name in program.blds if name not in pieces or pieces[name].make)
    yield from (
        ("score", name)
        for name, score in program.scores.items()
        if name in stale and isinstance(score.method, nodes.ReplaceOne)
    )
    yield from (("solve", name) for name in program.searches if name in stale)
    yield from (("frontier", name) for name in program.frontiers if name in stale)
    stale = _resting_on(program, touched)
    searches, frontiers = program.searches.items(), program.frontiers.items()
    yield from (("refine", name) for name, search in searches if search.refine and name in stale)
    yield from (("refine", name) for name, frontier in frontiers if frontier.children and name in stale)
    yield from (("uptrain", name) for name in program.uptrains if name in stale)
    yield from (("eval", name) for name in program.evals if name in stale)
    exports = program.exports.items()
    yield from (
        ("export", name) for name, export in exports if name in stale or _card_again(program, export, stale)
    )


def _resting_on(program: nodes.Program, touched: set[str]) -> set[str]:
    """`touched`, and every declaration that refers to one of these, directly or not."""
    everything: dict[str, Frozen] = {
        **program.parents, **program.data, **program.hardware, **program.scenarios, **program.spaces, **program.blds,
        **program.scores, **program.searches, **program.frontiers, **program.uptrains, **program.evals,
        **program.exports,
    }  # fmt: skip
    stale = set(touched)
    grown = True
    while grown:
        more = {name for name, node in everything.items() if stale & set(references(node))} - stale
        stale |= more
        grown = bool(more)
    return stale


def _card_again(program: nodes.Program, export: nodes.Export, stale: set[str]) -> bool:
    """True where the exported card shows an evaluation that is measured again."""
    return bool(stale & set(evaluations_of(program, export.of)))


def _measured_again(program: nodes.Program, space: str, stale: set[str]) -> bool:
    """True where blocks of a space are timed on this machine and the space, or such a scenario, is stale."""
    if program.spaces[space].used_by is not None:
        return False
    measured = [
        name
        for name, scenario in program.scenarios.items()
        if isinstance(program.hardware[scenario.hardware].spec, nodes.MeasuredHardware)
    ]
    return bool(measured) and (space in stale or any(name in stale for name in measured))
