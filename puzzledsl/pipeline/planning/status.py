"""`pzl status`: the state of every task, with the reason if it is not done. Reads only.

Stages that must run again after a change of the program: those of changed declarations, and those that follow them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.changes import compare as changes
from puzzledsl.changes.compare import Pieces, ProgramChanges
from puzzledsl.ir import nodes
from puzzledsl.ir.references import evaluations_of, references
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import tasks_of
from puzzledsl.pipeline.inputs import blds_of, measured_scenarios
from puzzledsl.pipeline.opening import has_pieces, measured_scores
from puzzledsl.pipeline.stamps import failure_of
from puzzledsl.pipeline.task import Key, Task
from puzzledsl.pipeline.tasks import TASKS

MEANINGS = {
    **dict.fromkeys(KINDS, "the declaration"),
    "alternatives": "the alternatives",
    "child": "the child",
    "costs": "the costs",
    "data": "the text",
    "dtype": "the dtype of tasks",
    "engine": "the engine's build, the processor or its threads",
    "full": "the children in full",
    "healing": "how children are healed",
    "jobs": "the list of pieces",
    "judges": "the judges",
    "layers": "the solution",
    "models": "the children",
    "parent": "the parent's weights",
    "pieces": "the pieces",
    "prompts": "the prompts",
    "quality": "what was measured of the child",
    "refine": "how children are measured",
    "scenarios": "the scenarios",
    "scores": "the scores",
    "scoring": "what scoring measures",
    "source": "the program's text",
    "space": "the space",
    "tasks": "the questions",
    "unfinished": "a part that failed",
}
"""Names of inputs in stamps, in words."""


Word = Literal["done", "missing", "stale", "blocked", "failed"]


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task, its state in a word, and the reason for a state other than `done`.

    `missing`: never finished; `stale`: inputs or files have changed, or a task before it is not done; `failed`: when a run
    last tried it; `blocked`: unknown, because something outside the build directory is missing.
    """

    task: Task
    word: Word
    why: str


def _listed(words: Sequence[str]) -> str:
    shown = list(dict.fromkeys(words))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def statuses(ctx: Context) -> Iterator[TaskStatus]:
    """Yield every task of `pzl run` with its state, in order."""
    undone: list[Key] = []
    for task in tasks_of(ctx):
        word, why = _state(ctx, task, undone)
        if word != "done":
            undone.append(task.key)
            failure = failure_of(ctx.build, task.stage, task.name)
            word, why = (word, why) if failure is None else ("failed", failure.reason)
        yield TaskStatus(task, word, why)


def _state(ctx: Context, task: Task, undone: Sequence[Key]) -> tuple[Word, str]:
    stamp = ctx.stamps.read(task.stage, task.name)
    if stamp is None:
        return "missing", "not made yet"
    if first := task.follows(undone):  # if that task leaves the same files, this one stays done
        return "stale", f"after {_listed([' '.join(key) for key in first])}"
    try:
        now, before = task.inputs(), stamp.inputs
        files = ctx.stamps.damaged(stamp)
        changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        if changed and not files:
            return "stale", f"{_listed([MEANINGS.get(name, f'`{name}`') for name in changed])} changed"
        if files := files or list(task.damaged()):
            return "stale", f"{_listed([f'`{file}`' for file in files])} changed or gone since"
    except DiagnosticError as error:
        return "blocked", error.diagnostics[0].message
    return "done", ""


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
    touched, solved = _resting_on(program, names), _resting_on(program, names - refined)
    for kind in TASKS.values():
        stale = solved if kind.by_space else touched
        yield from (
            (kind.stage, name)
            for name in kind.declared(program)
            if _runs_again(program, kind.stage, name, stale, found.pieces)
        )


def _runs_again(
    program: nodes.Program, stage: str, name: str, stale: Collection[str], pieces: Mapping[str, Pieces]
) -> bool:
    """Return True if a task that was finished runs again. The report shows the program's text and all that is made of it.

    `stale`: declarations that differ or refer to one that does; searches that only measure other children than before keep their
    solutions. `pieces`: those of each BLD with known jobs; new ones are made.
    """
    rests_on = {name}
    match stage:
        case "report":
            return True
        case "bld":
            return name not in pieces or pieces[name].make > 0
        case "measure":
            scenarios = measured_scenarios(program)
            rests_on = {name, *scenarios} if scenarios else set()
        case "realise":
            blds = blds_of(program, program.searches[name].space)
            rests_on = {name, *blds} if has_pieces(program, name) else set()
        case "export":
            rests_on = {name, *evaluations_of(program, program.exports[name].of)}
    return any(each in stale for each in rests_on)


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
