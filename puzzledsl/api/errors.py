"""Mistakes that only Python code can make."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class FramesNeedALibrary(Diagnostic):
    """A data frame without pandas or polars.

    `to_frame()` makes a data frame of pandas, or of polars where only that is there. Neither is installed with puzzledsl.

    Wrong:
        $ pip install puzzledsl
        $ python -c 'import puzzledsl; puzzledsl.load("wide.pzl").space("wide").to_frame()'
    Right:
        $ pip install puzzledsl pandas
        $ python -c 'import puzzledsl; puzzledsl.load("wide.pzl").space("wide").to_frame()'
    """

    code = "E0671"
    template = "a data frame needs {library}, which is not installed"
    help_template = "{help}"
