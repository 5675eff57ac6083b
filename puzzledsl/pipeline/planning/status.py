"""`pzl status`: the state of every task, with the reason if it is not done. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.language.kinds import KINDS
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import tasks_of
from puzzledsl.pipeline.stamps import failure_of
from puzzledsl.pipeline.task import Key, Task

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
