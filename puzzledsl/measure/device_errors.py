"""Diagnostics of a `measured(...)` hardware that does not match this machine."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class NoSuchDevice(Diagnostic):
    """A device that torch does not know or this machine does not have.

    `measured(device: …)` names a device of this machine as PyTorch calls it.

    Wrong:
        hardware here = measured(device: cuda, dtype: bf16)     # on a machine without a GPU
    Right:
        hardware here = measured(device: cpu, dtype: fp32)
    """

    code = "E1801"
    template = "hardware `{name}` is measured on `{device}`, which this machine does not have"
    help_template = (
        'devices here: {devices}; for another machine\'s figures use a profile or `table("costs.csv")`'
    )


class NoSuchDtype(Diagnostic):
    """A data type that Transformers' modules cannot compute in.

    Blocks are measured with Transformers' own modules.

    Wrong:
        hardware here = measured(device: cpu, dtype: fp8)
    Right:
        hardware here = measured(device: cpu, dtype: bf16)
    """

    code = "E1802"
    template = "hardware `{name}` cannot be measured in `{dtype}`"
    help_template = "types that can be measured: {dtypes}"
