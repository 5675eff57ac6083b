"""Diagnostics of engines that models are timed in."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class EngineAbsent(Diagnostic):
    """The engine of `measured(engine: ...)` is not installed.

    Costs are measured in the engine itself, on this machine.

    Wrong:
        hardware here = measured(engine: vllm, dtype: bf16)     # on a machine without vLLM
    Right:
        hardware here = measured(device: cpu, dtype: bf16)
    """

    code = "E1804"
    template = "hardware `{name}` is measured in {engine}, which is not installed"
    help_template = "{install}; `measured(engine: torch)` needs nothing else"


class EngineFailed(Diagnostic):
    """The engine's process failed while it loaded or timed a model.

    The engine runs in a process of its own, so that its crash stops the measurement alone. What is measured already is kept:
    the same command goes on from there.

    Wrong:
        scenario talk on h = batch(64, 4Ki -> 1Ki)     # more memory than the machine has
    Right:
        scenario talk on h = batch(8, 4Ki -> 1Ki)
    """

    code = "E1805"
    template = "{engine} failed while it timed {what}: {reason}"
    help_template = "run it again to go on from here; a smaller batch, or a shorter prompt, needs less memory"
