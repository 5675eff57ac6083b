"""Diagnostics of measurement."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoWorkload(Diagnostic, code="E1811"):
    """The memory is too small for the weights and the KV cache of one sequence."""

    template = "scenario `{scenario}` does not fit on hardware `{hardware}`, not even one sequence of it"
    help_template = "give the hardware more memory, or shorten the prompt"


class TimedUnlikePlain(Diagnostic, code="W1812"):
    """The parent, timed as `pzl measure` times it, is more than 10 % away from plain `generate`."""

    template = (
        "scenario `{scenario}`, batch {batch}: {phase} of the parent takes {apart} than in plain `generate`"
    )
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"


class BusyMachine(Diagnostic, code="W1813"):
    """The parent's own time varied widely while costs were measured."""

    template = "scenario `{scenario}`, batch {batch}: the parent's {phase} varied by {spread} between rounds"
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"


class ParentDrifted(Diagnostic, code="W1814"):
    """The parent's time in an evaluation is far from its time in the cost table."""

    template = "scenario `{scenario}`: {phase} of the parent takes {now} in evaluation `{eval}`, {then} in the cost table"
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"
