"""Rows to data frames, with whichever library is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError

Library = Literal["pandas", "polars"]
LIBRARIES: tuple[Library, ...] = ("pandas", "polars")


class FramesNeedALibrary(Diagnostic, code="E0671"):
    """A data frame without pandas or polars."""

    template = "a data frame needs {library}, which is not installed"


def frame(rows: Sequence[Mapping[str, object]], library: Library | None = None) -> Any:
    """A data frame with one row for each of `rows`, whose keys are the columns.

    Without `library`, one that is imported already comes first, then pandas, then polars. Raises DiagnosticError
    (E0671) where it is not installed.
    """
    if library is not None and library not in LIBRARIES:
        raise ValueError(f"library is 'pandas' or 'polars', not {library!r}")
    wanted = LIBRARIES if library is None else (library,)
    imported = [name for name in wanted if name in sys.modules]
    installed = imported or [name for name in wanted if importlib.util.find_spec(name) is not None]
    if not installed:
        words = " or ".join(wanted)
        help = " or ".join(f"`pip install {name}`" for name in wanted)
        raise DiagnosticError(FramesNeedALibrary(None, library=words, help=help))
    module = importlib.import_module(installed[0])
    if installed[0] == "polars":
        return module.DataFrame([dict(row) for row in rows], infer_schema_length=None)
    made = module.DataFrame.from_records([dict(row) for row in rows])
    return made.astype(dict.fromkeys(_whole_with_gaps(rows), "Int64"))


def _whole_with_gaps(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Columns of whole numbers and None, which pandas would read as floats."""
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return [
        name
        for name, values in columns.items()
        if None in values and {type(value) for value in values} == {int, type(None)}
    ]
