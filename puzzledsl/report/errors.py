"""Mistakes found when a report is written."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class FiguresNeedMatplotlib(Diagnostic, code="E0661"):
    """`--figures` without matplotlib."""

    template = "figures are drawn by matplotlib, which is not installed"
    help_template = "`pip install 'puzzledsl[figures]'`; the report itself needs nothing more"
