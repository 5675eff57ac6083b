"""Diagnostics of measurement."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoWorkload(Diagnostic):
    """The memory is too small for the weights and the KV cache of one sequence.

    A measurement needs at least batch 1.

    Wrong:
        hardware tiny = measured(device: cpu, memory: 1MiB)
        scenario talk on tiny = batch(auto, 128 -> 1024)
    Right:
        hardware large = measured(device: cpu, memory: 16GiB)
        scenario talk on large = batch(auto, 128 -> 1024)
    """

    code = "E1811"
    template = "scenario `{scenario}` does not fit on hardware `{hardware}`, not even one sequence of it"
    help_template = "give the hardware more memory, or shorten the prompt"


class TimedUnlikePlain(Diagnostic):
    """The parent, timed as `pzl measure` times it, is more than 10 % away from plain `generate`.

    Both are Transformers' code on the same weights, timed in turn. A machine that was busy at one of the moments is the usual
    cause. If the warning stays on a quiet machine, a user's process runs other kernels than the measurement.

    Wrong:
        $ pzl measure wide.pzl        # while a compiler runs
    Right:
        $ pzl measure wide.pzl --again
    """

    code = "W1812"
    severity = "warning"
    template = (
        "scenario `{scenario}`, batch {batch}: {phase} of the parent takes {apart} than in plain `generate`"
    )
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"


class BusyMachine(Diagnostic):
    """The parent's own time varied widely while costs were measured.

    The spread is the robust standard deviation of the parent's time between rounds. Costs are lower deciles, which a machine that
    was busy all the time still lengthens.

    Wrong:
        $ pzl measure wide.pzl        # while a compiler runs
    Right:
        $ pzl measure wide.pzl --again
    """

    code = "W1813"
    severity = "warning"
    template = "scenario `{scenario}`, batch {batch}: the parent's {phase} varied by {spread} between rounds"
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"


class ParentDrifted(Diagnostic):
    """The parent's time in an evaluation is far from its time in the cost table.

    Both are times of the same model in the same scenario. One of them was taken on a busy machine, or on another one.
    Speed-ups, which compare parent and child at the same moment, suffer less than times.

    Wrong:
        $ pzl run wide.pzl            # measured on a busy machine, evaluated on a quiet one
    Right:
        $ pzl measure wide.pzl --again
        $ pzl run wide.pzl
    """

    code = "W1814"
    severity = "warning"
    template = "scenario `{scenario}`: {phase} of the parent takes {now} in evaluation `{eval}`, {then} in the cost table"
    help_template = "measure again when the machine is quiet: `pzl measure {file} --again`"
