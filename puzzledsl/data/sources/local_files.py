"""Files of a source: those that its globs match, and their lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import matching
from puzzledsl.data.errors import DataMissing
from puzzledsl.data.sources.source import Place


def matched(place: Place[Any], patterns: Iterable[str]) -> tuple[Path, ...]:
    """Return the files of all globs, sorted by name within each. Raises DiagnosticError for a glob that matches nothing."""
    return tuple(file for pattern in patterns for file in _matched(place, pattern))


def _matched(place: Place[Any], pattern: str) -> list[Path]:
    files = sorted(matching(place.base, pattern))
    if not files:
        raise DiagnosticError(DataMissing(place.span, name=place.name, pattern=pattern, base=place.base))
    return files


def lines_of(place: Place[Any], file: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file. Raises DiagnosticError (DataUnreadable)."""
    try:
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise place.unreadable(file, f"it is not UTF-8 ({error.reason})", "save it as UTF-8") from error
    except OSError as error:
        raise place.unreadable(file, str(error.strerror), "check its permissions") from error
