"""Device and memory of a `measured(...)` hardware, for torch."""

from __future__ import annotations

import torch

from puzzledsl.base.diagnostics import DiagnosticError, SeveralGpus
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program
from puzzledsl.measure.errors import NoSuchDevice, NoSuchDtype

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(hardware: Hardware) -> tuple[torch.device, torch.dtype]:
    """Return torch's device and dtype of a measured hardware. Raises DiagnosticError: NoSuchDevice, NoSuchDtype, SeveralGpus."""
    spec, span = hardware.spec, span_of(hardware.where)
    assert isinstance(spec, MeasuredHardware)
    here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if spec.device.split(":")[0] not in here:
        problem = NoSuchDevice(span, name=hardware.name, device=spec.device, devices=", ".join(here))
        raise DiagnosticError(problem)
    if spec.dtype not in DTYPES:
        problem_dtype = NoSuchDtype(span, name=hardware.name, dtype=spec.dtype, dtypes=", ".join(DTYPES))
        raise DiagnosticError(problem_dtype)
    if spec.gpus != 1:
        raise DiagnosticError(SeveralGpus(span, name=hardware.name, gpus=spec.gpus))
    return torch.device(spec.device), DTYPES[spec.dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """Return the language's word for a dtype."""
    return next(word for word, known in DTYPES.items() if known == dtype)


def measured_scenarios(program: Program) -> dict[str, Hardware]:
    """Return the scenarios on a measured hardware, with that hardware, in the order of the source."""
    pairs = {name: program.hardware[s.hardware] for name, s in program.scenarios.items()}
    return {name: hardware for name, hardware in pairs.items() if isinstance(hardware.spec, MeasuredHardware)}


def memory_bytes(hardware: Hardware, device: torch.device) -> int:
    """Return the memory that the hardware declares, or else the device's."""
    import os

    assert isinstance(hardware.spec, MeasuredHardware)
    if hardware.spec.memory_bytes is not None:
        return hardware.spec.memory_bytes
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
