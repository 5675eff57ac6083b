"""Output of commands: results on stdout, everything else on stderr; colour only on terminals."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from puzzledsl.base.diagnostics import Diagnostic

EXIT_FAULT = 70


def use_color(stream: TextIO) -> bool:
    """Return True if the stream is a terminal that supports colour and NO_COLOR is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_source_roots: list[Path] = []


def add_source_root(root: Path) -> None:
    """Register a directory for the files named in spans. Later stages name them relative to the program's directory."""
    if root not in _source_roots:
        _source_roots.append(root)


def sources_for(diagnostics: Iterable[Diagnostic], known: Mapping[str, str]) -> dict[str, str]:
    """Return the text of every file that a diagnostic points into, reading those that are not known."""
    from puzzledsl.base import render

    return render.sources_for(diagnostics, known, [Path(), *_source_roots])


def print_diagnostics(diagnostics: Iterable[Diagnostic], known: Mapping[str, str]) -> None:
    """Render diagnostics on stderr, in source order, then a count."""
    from puzzledsl.base.render import counts, render

    ordered = sorted(diagnostics, key=lambda d: d.sort_key)
    sources = sources_for(ordered, known)
    for diagnostic in ordered:
        print(render(diagnostic, sources, color=use_color(sys.stderr)), file=sys.stderr)
        print(file=sys.stderr)
    if len(ordered) > 1:
        print(counts(ordered), file=sys.stderr)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()


def shown_path(path: Path) -> str:
    """Return a path relative to the current directory if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def report_fault(error: Exception) -> int:
    """Report an internal error, write the traceback to a file that the user can attach, and return the exit code."""
    handle, name = tempfile.mkstemp(prefix="pzl-fault-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exception(error, file=file)
    print(
        f"pzl: internal error ({type(error).__name__}: {error})\n"
        f"This is a fault of pzl, not of your file. The details are in {name}; please report them.",
        file=sys.stderr,
    )
    return EXIT_FAULT
