"""Mistakes found when a page is served."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class ExploreNeedsAServer(Diagnostic, code="E0681"):
    """`pzl explore` without Starlette or uvicorn."""

    template = "the page is served by Starlette and uvicorn; not installed: {missing}"
    help_template = "`pip install 'puzzledsl[explore]'`"


class NothingToExplore(Diagnostic, code="E0682"):
    """A program, or a search, that `pzl explore` cannot show."""

    template = "{what}, so there is nothing to explore"
    help_template = "name a search whose solver is `cpsat`, the default"


class PortIsTaken(Diagnostic, code="E0683"):
    """A port that another program listens on."""

    template = "port {port} of 127.0.0.1 cannot be had: {reason}"
    help_template = "leave `--port` out, and a free one is taken"
