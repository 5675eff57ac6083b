"""Problems of a task that failed."""

from __future__ import annotations

from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact


class Problem(Frozen):
    """A mistake that a task failed with."""

    code: str
    message: str


class Failure(Artefact):
    """`build/failures/STAGE-NAME.json`: the problems of a task that failed when a run last tried it.

    `partly`: True if it left those of its outputs that could be made.
    """

    stage: str
    name: str
    problems: tuple[Problem, ...]
    partly: bool = False

    @property
    def title(self) -> str:
        """The task's stage and name: `eval quality`."""
        return f"{self.stage} {self.name}".strip()

    @property
    def reason(self) -> str:
        """The first problem with its code, and the number of others."""
        first, more = self.problems[0], len(self.problems) - 1
        return f"{first.code}: {first.message}" + (f" (and {more} more)" if more else "")
