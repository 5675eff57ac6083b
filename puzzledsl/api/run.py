"""A run of a program's stages, and the children it made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # noqa: TID251 (a type only)

    from puzzledsl.api.session import Session
    from puzzledsl.api.tables import Library
    from puzzledsl.pipeline.planning.status import TaskStatus


class Run:
    """The state of a program's build directory after a run."""

    def __init__(self, session: Session) -> None:
        """Look at a build directory. `Program.run` makes runs."""
        self._session = session

    @property
    def build(self) -> Path:
        """The build directory."""
        return self._session.context.build.root

    @property
    def report(self) -> Path | None:
        """The report; None before the stage `report` was done."""
        path = self._session.context.build.report
        return path if path.is_file() else None

    @property
    def summary(self) -> str:
        """Parent against child, and the places of what was made, as `pzl run` prints them."""
        from puzzledsl.pipeline.text.refined_text import summary

        with self._session.explained():
            return summary(self._session.context)

    def status(self) -> tuple[TaskStatus, ...]:
        """The state of every task, as `pzl status` says it.

        Returns:
            For each task its `task` (`.stage`, `.name`), a `word` (`done`, `missing`, `stale`, `failed`, `blocked`), and `why`.
        """
        from puzzledsl.pipeline.planning.status import statuses

        with self._session.explained():
            return tuple(statuses(self._session.context))

    def to_frame(self, library: Library | None = None) -> Any:
        """The tasks as a data frame with the columns `stage`, `name`, `state` and `why`.

        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.tables import frame

        rows = [
            {"stage": s.task.stage, "name": s.task.name, "state": s.word, "why": s.why} for s in self.status()
        ]
        return frame(rows, library)

    def child(self, name: str, *, dtype: Any = None, device: Any = "cpu") -> PreTrainedModel:
        """Load a child that was made. Imports torch and transformers.

        Args:
            name: The search or the uptraining that made it.
            dtype: The `torch.dtype` of its weights. Default: `torch.float32`.
            device: A torch device or its name.

        Returns:
            A transformers model in evaluation mode, which `generate` and `save_pretrained` take as any other.

        Raises:
            DiagnosticError: The program has no such search or uptraining, or the child is not made yet.
        """
        from puzzledsl.pipeline.solving import load_made_child

        with self._session.explained():
            return load_made_child(self._session.context, name, dtype=dtype, device=device)

    def __repr__(self) -> str:
        return f"<Run in {self.build}>"

    def _repr_html_(self) -> str:
        from puzzledsl.report.notebook import Table, fragment

        rows = [(s.task.title, s.word, s.why) for s in self.status()]
        return fragment(f"run in {self.build}", (), [Table.of(("task", "state", ""), rows, words=3)])
