"""Errors that show their diagnostics: whoever sees the traceback sees place, message and help, as on the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from puzzledsl.base.diagnostics import DiagnosticError


@contextmanager
def explained(sources: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Add the rendered diagnostics to a DiagnosticError that passes through, as a note of the exception."""
    try:
        yield
    except DiagnosticError as error:
        if not getattr(error, "__notes__", None):
            from puzzledsl.base.render import render_all, sources_for

            texts = sources_for(error.diagnostics, sources, [Path(), folder])
            error.add_note(render_all(error.diagnostics, texts, color=False).rstrip())
        raise
