"""Stages that must run again after a change of the program: those of changed declarations, and those that follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from puzzledsl.changes import compare as changes
from puzzledsl.changes.model import ProgramChanges
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.needs import measured_scores
from puzzledsl.pipeline.task import Key, Touched
from puzzledsl.pipeline.tasks import TASKS

_MEASURING = (["refine"], ["children"])
"""Differences of a search or a frontier that solve nothing again."""


def compare(old: nodes.Program, new: nodes.Program) -> ProgramChanges:
    """Differences in meaning of `new` from `old`, with the stages that run again."""
    found = changes.compare(old, new)
    return replace(found, again=tuple(_again(new, found)))


def _again(program: nodes.Program, found: ProgramChanges) -> Iterator[Key]:
    if not found.changes:
        return
    now = [change for change in found.changes if change.sign != "-" and change.kind != "param"]
    names = {change.name for change in now}
    refined = {change.name for change in now if [detail.what for detail in change.details] in _MEASURING}
    touched = Touched(_resting_on(program, names), _resting_on(program, names - refined), found.pieces)
    for kind in TASKS.values():
        declared = kind.declared(program)
        yield from ((kind.stage, name) for name in declared if kind.runs_again(program, name, touched))


def _resting_on(program: nodes.Program, touched: set[str]) -> set[str]:
    """Return `touched`, and every declaration that refers to one of these, directly or not."""
    nodes_of = [changes.declared(program, kind) for kind in KINDS]
    read = {name: set(references(node)) for declared in nodes_of for name, node in declared.items()}
    for search in program.searches:  # it is solved with every score of its space, named or not
        read[search] |= set(measured_scores(program, search))
    stale = set(touched)
    while more := {name for name, names in read.items() if stale & names} - stale:
        stale |= more
    return stale
