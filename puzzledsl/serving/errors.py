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
