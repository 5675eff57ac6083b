"""`pzl status`: the state of every task, with the reason if it is not done. Reads only.

Stages that must run again after a change of the program: those of changed declarations, and those that follow them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.changes import compare as changes
from puzzledsl.changes.model import ProgramChanges
from puzzledsl.ir import nodes
from puzzledsl.ir.references import references
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.needs import measured_scores
from puzzledsl.pipeline.process.failures import failure_of
from puzzledsl.pipeline.run_all import tasks_of
from puzzledsl.pipeline.task import WORDS, Key, Task, Touched
from puzzledsl.pipeline.tasks import TASKS

MEANINGS = WORDS | {name: word for kind in TASKS.values() for name, word in kind.words.items()}
"""Names of inputs in stamps, in words."""


@dataclass(frozen=True, slots=True)
class Done:
    """Finished from the same inputs, and every file is as it was left."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Never finished."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Finished from other inputs."""

    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Damaged:
    """Its files were changed, damaged or removed since."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Follows:
    """Waits for a task that it reads from. If that task leaves the same files, this one stays done."""

    tasks: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Unknown, because something outside the build directory is missing."""

    because: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Failed when a run last tried it, and not done since."""

    reason: str


State = Done | Missing | Changed | Damaged | Follows | Blocked | Failed


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task and its state."""

    task: Task
    state: State

    @property
    def word(self) -> Literal["done", "missing", "stale", "blocked", "failed"]:
        """The state in a word."""
        match self.state:
            case Done():
                return "done"
            case Missing():
                return "missing"
            case Changed() | Damaged() | Follows():
                return "stale"
            case Blocked():
                return "blocked"
            case Failed():
                return "failed"
            case _:
                assert_never(self.state)

    @property
    def why(self) -> str:
        """The reason for a state other than `done`."""
        match self.state:
            case Done():
                return ""
            case Missing():
                return "not made yet"
            case Changed(inputs=inputs):
                return f"{_listed([MEANINGS.get(name, f'`{name}`') for name in inputs])} changed"
            case Damaged(files=files):
                return f"{_listed([f'`{file}`' for file in files])} changed or gone since"
            case Follows(tasks=tasks):
                return f"after {_listed([' '.join(key) for key in tasks])}"
            case Blocked(because=because):
                return because
            case Failed(reason=reason):
                return reason
            case _:
                assert_never(self.state)


def _listed(words: Sequence[str]) -> str:
    shown = list(dict.fromkeys(words))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def statuses(ctx: Context) -> Iterator[TaskStatus]:
    """Yield every task of `pzl run` with its state, in order."""
    undone: list[Key] = []
    for task in tasks_of(ctx):
        state = _state(ctx, task, undone)
        failure = failure_of(ctx.build, task.stage, task.name)
        if failure is not None and not isinstance(state, Done):
            state = Failed(failure.reason)
        if not isinstance(state, Done):
            undone.append(task.key)
        yield TaskStatus(task, state)


def _state(ctx: Context, task: Task, undone: Sequence[Key]) -> State:
    stamp = ctx.stamps.read(task.stage, task.name)
    if stamp is None:
        return Missing()
    if first := task.follows(undone):
        return Follows(first)
    try:
        inputs = task.inputs()
        if files := tuple(ctx.stamps.damaged(stamp)):
            return Damaged(files)
        if changed := _changed(stamp.inputs, inputs):
            return Changed(changed)
        return Damaged(files) if (files := task.damaged()) else Done()
    except DiagnosticError as error:
        return Blocked(error.diagnostics[0].message)


def _changed(before: dict[str, str], now: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in {**before, **now} if before.get(name) != now.get(name)))


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
