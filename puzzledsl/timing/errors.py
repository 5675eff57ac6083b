"""A `measured(...)` hardware that this machine is not."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoSuchDevice(Diagnostic):
    """The device is unknown to torch, or not there.

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
    """A data type in which Transformers' own modules cannot be run.

    Blocks are measured with Transformers' own modules, in types that these can compute in.

    Wrong:
        hardware here = measured(device: cpu, dtype: fp8)
    Right:
        hardware here = measured(device: cpu, dtype: bf16)
    """

    code = "E1802"
    template = "hardware `{name}` cannot be measured in `{dtype}`"
    help_template = "types that can be measured: {dtypes}"


class SeveralGpus(Diagnostic):
    """Blocks are measured on one device.

    Blocks are measured on one device. For several, use a profile, which computes the exchange between them.

    Wrong:
        hardware here = measured(device: cuda, dtype: bf16, gpus: 2)
    Right:
        hardware here = measured(device: cuda, dtype: bf16, gpus: 1)
    """

    code = "E1803"
    template = "hardware `{name}` asks for {gpus} GPUs; costs are measured on one"
    help_template = "write `gpus: 1`, or use a profile for tensor parallel hardware"
