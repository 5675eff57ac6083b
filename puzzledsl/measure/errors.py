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
