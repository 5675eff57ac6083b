"""Mistakes that only Python code can make."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class FramesNeedALibrary(Diagnostic, code="E0671"):
    """A data frame without pandas or polars."""

    template = "a data frame needs {library}, which is not installed"
    help_template = "{help}"
