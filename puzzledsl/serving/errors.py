"""Diagnostics of engines that models are timed in."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class EngineAbsent(Diagnostic, code="E1804"):
    """The engine of `measured(engine: ...)` is not installed."""

    template = "hardware `{name}` is measured in {engine}, which is not installed"
    help_template = "{install}; `measured(engine: torch)` needs nothing else"


class EngineFailed(Diagnostic, code="E1805", template="{engine} failed while it timed {what}: {reason}"):
    """The engine's process failed while it loaded or timed a model."""

    help_template = "run it again to go on from here; a smaller batch, or a shorter prompt, needs less memory"


class NoServer(Diagnostic, code="E1815", template="no engine serves scenario `{name}`"):
    """A workload that is not measured in an engine which serves, or an engine without its server."""


class NotServed(Diagnostic, code="E1816", template="traffic of `{name}` was not served: {reason}"):
    """A server that did not start or did not answer in time."""

    help_template = "fewer sequences (`at_most`), a lower rate (`--shares 30%`) or shorter requests may do"
