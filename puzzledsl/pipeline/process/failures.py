"""Records of failed tasks, one file each: written when a task fails, removed when it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.ir.tables import Failure, Problem


class Unfinished(DiagnosticError):
    """Ends a task that could make a part of its outputs."""

    def __init__(self, *diagnostics: Diagnostic, outputs: Sequence[Path] = ()) -> None:
        super().__init__(*diagnostics)
        self.outputs = list(outputs)


def failure_of(build: BuildDir, stage: str, name: str) -> Failure | None:
    """Return why a task failed when it was last tried; None if it did not."""
    try:
        return Failure.from_json(build.failure(stage, name).read_bytes())
    except (OSError, ValueError):
        return None


def failures(build: BuildDir) -> Iterator[Failure]:
    """Yield every record, by stage and name."""
    for path in sorted(build.failure("", "").parent.glob("*.json")):
        with suppress(OSError, ValueError):
            yield Failure.from_json(path.read_bytes())


def record(build: BuildDir, stage: str, name: str, error: DiagnosticError) -> None:
    """Write why a task failed."""
    problems = tuple(Problem(code=d.code, message=d.message) for d in error.diagnostics)
    found = Failure(stage=stage, name=name, problems=problems, partly=isinstance(error, Unfinished))
    write_text(build.failure(stage, name), found.canonical_json())


def forget(build: BuildDir, stage: str, name: str) -> None:
    """Remove the record of a task that is done, or that the program has no longer."""
    build.failure(stage, name).unlink(missing_ok=True)
