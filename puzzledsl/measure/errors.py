"""Diagnostics of measurement, here and in engines, and of a `measured(...)` hardware that does not match this machine."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoWorkload(Diagnostic, code="E1811"):
    """The memory is too small for the weights and the KV cache of one sequence."""

    template = "scenario `{scenario}` does not fit on hardware `{hardware}`, not even one sequence of it"
    help_template = "give the hardware more memory, or shorten the prompt"


class BusyMachine(Diagnostic, code="W1813"):
    """The parent's own time varied widely while costs were measured."""

    template = "scenario `{scenario}`, batch {batch}: the parent's {phase} varied by {spread} between rounds"
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"


class NoSuchDevice(Diagnostic, code="E1801"):
    """A device that torch does not know or this machine does not have."""

    template = "hardware `{name}` is measured on `{device}`, which this machine does not have"
    help_template = (
        'devices here: {devices}; for another machine\'s figures use a profile or `table("costs.csv")`'
    )


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
