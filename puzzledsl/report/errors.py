"""Mistakes found when a report is written."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class FiguresNeedMatplotlib(Diagnostic):
    """`--figures` without matplotlib.

    The page needs nothing; figures for papers are drawn by matplotlib, which is not installed with puzzledsl.

    Wrong:
        $ pip install puzzledsl
        $ pzl report wide.pzl --figures figures
    Right:
        $ pip install 'puzzledsl[figures]'
        $ pzl report wide.pzl --figures figures
    """

    code = "E0661"
    template = "figures are drawn by matplotlib, which is not installed"
    help_template = "`pip install 'puzzledsl[figures]'`; the report itself needs nothing more"
