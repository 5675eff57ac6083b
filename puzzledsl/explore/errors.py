"""Mistakes found when a page is served."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class ExploreNeedsAServer(Diagnostic):
    """`pzl explore` without Starlette or uvicorn.

    The page is served on this machine by Starlette and uvicorn, which are not installed with puzzledsl.

    Wrong:
        $ pip install puzzledsl
        $ pzl explore wide.pzl
    Right:
        $ pip install 'puzzledsl[explore]'
        $ pzl explore wide.pzl
    """

    code = "E0681"
    template = "the page is served by Starlette and uvicorn; not installed: {missing}"
    help_template = "`pip install 'puzzledsl[explore]'`"


class NothingToExplore(Diagnostic):
    """A program, or a search, that `pzl explore` cannot show.

    A page shows a search with its proof: one that is solved exactly. Baselines are heuristics and prove nothing.

    Wrong:
        $ pzl explore wide.pzl greedy
    Right:
        $ pzl explore wide.pzl best
    """

    code = "E0682"
    template = "{what}, so there is nothing to explore"
    help_template = "name a search whose solver is `cpsat`, the default"


class PortIsTaken(Diagnostic):
    """A port that another program listens on.

    One page is served at each port.

    Wrong:
        $ pzl explore wide.pzl --port 8000
        $ pzl explore other.pzl --port 8000
    Right:
        $ pzl explore wide.pzl --port 8000
        $ pzl explore other.pzl
    """

    code = "E0683"
    template = "port {port} of 127.0.0.1 cannot be had: {reason}"
    help_template = "leave `--port` out, and a free one is taken"
