"""Open a file or a text as a checked program with a run context. Shared by the commands and the Python API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.check import Checked
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.rounds.narrow import resolve_used_by

if TYPE_CHECKING:
    from puzzledsl.checker.context import Context as CheckContext


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked program. `context` is None if it has errors; `sources` maps file names to texts.

    `found` is what the check found out; None for a file that cannot be read.
    """

    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]
    context: Context | None
    found: CheckContext | None


def open_program(
    file: Path, settings: Mapping[str, str], build: Path | None = None, text: str | None = None
) -> Opened:
    """Check a file and prepare its run. Never raises for a user's mistake.

    Args:
        file: The `.pzl` file. Its relative paths start at its directory.
        settings: Parameters by name, as `--set NAME=VALUE` gives them.
        build: The build directory; `build/` beside the file by default.
        text: A text that stands for the file's, which need not exist then.
    """
    from puzzledsl.checker.check import inspect

    unsaved = None if text is None else {os.path.realpath(file): text}
    checked, found = inspect(file, dict(settings), unsaved)
    context = None if checked.program is None else context_of(file, checked, build)
    return Opened(checked.diagnostics, checked.sources, context, found)


def context_of(file: Path, checked: Checked, build: Path | None = None) -> Context:
    """Return the run context of a program without errors.

    `used_by` spaces are narrowed if their search is solved.
    """
    assert checked.program is not None, "a program with errors has no context"
    layout = BuildDir(Path(os.path.realpath(build or file.parent / "build")))
    program, _ = resolve_used_by(checked.program, layout)
    source = next((text for name, text in checked.sources.items() if Path(name).name == file.name), "")
    return Context(file=file, program=program, build=layout, source=source)
