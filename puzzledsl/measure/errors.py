"""Diagnostics of measurement, and of a `measured(...)` hardware that does not match this machine."""

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
