"""Clock of a `measured(...)` hardware in PyTorch: its device, the parent that is loaded there, and the batches to time."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch

from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.diagnostics import DiagnosticError, SeveralGpus
from puzzledsl.base.frozen import Record
from puzzledsl.ir import facts
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program, Scenario, Shape
from puzzledsl.measure.errors import NoSuchDevice, NoWorkload
from puzzledsl.measure.estimate import Check, Round, Timer, rounds_needed
from puzzledsl.measure.host import Host, alternatives_of
from puzzledsl.measure.stopwatch import machine
from puzzledsl.measure.whole import Widths, Workload, sizes_of
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.slots import layers_with_weights
from puzzledsl.models.placement import free_bytes
from puzzledsl.plan.memory.stage_plan import TIMED_POOL_SHARE, TIMED_SHARE

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(hardware: Hardware) -> tuple[torch.device, torch.dtype]:
    """Return torch's device and dtype of a measured hardware. Raises DiagnosticError: NoSuchDevice, SeveralGpus."""
    spec, span = hardware.spec, span_of(hardware.where)
    assert isinstance(spec, MeasuredHardware)
    here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if spec.device.split(":")[0] not in here:
        problem = NoSuchDevice(span, name=hardware.name, device=spec.device, devices=", ".join(here))
        raise DiagnosticError(problem)
    if spec.gpus != 1:
        raise DiagnosticError(SeveralGpus(span, name=hardware.name, gpus=spec.gpus))
    return torch.device(spec.device), DTYPES[spec.dtype]


def memory_bytes(hardware: Hardware, device: torch.device) -> int:
    """Return the bytes of memory that the hardware declares, or else those of the device."""
    import os

    assert isinstance(hardware.spec, MeasuredHardware)
    if hardware.spec.memory_bytes is not None:
        return hardware.spec.memory_bytes
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


AUTO_PREFILL_TOKENS = {"cpu": 8192, "cuda": 1 << 18}  # an `auto` batch is tried up to this many prompt tokens


class Place(Record):
    """Facts of a measurement, found by the worker that has loaded the parent."""

    shape: Shape
    config: str
    """The parent's configuration, as JSON."""
    machine: str
    """Description of processor or GPU, threads, and engine with its version."""
    dtype: str
    stored: Widths
    memory_bytes: int
    rounds: int
    batches: Mapping[str, Sequence[int]]
    """Batches of each scenario, ascending."""
    layers_with_weights: int
    """Number of the parent's layers whose weights are in memory; if not all fit, the other layers share these."""
    whole: bool = False
    """True if only whole models can be timed, not the sub-blocks in them."""


class Clock:
    """Times a space's alternatives and children on the device of a `measured(...)` hardware, with the parent loaded there."""

    def __init__(self, program: Program, space: str, parent: Path, hardware: str, member: int = 0) -> None:
        """Find the device. `member`, the worker's number, is unused. Raises DiagnosticError as `device_of` does."""
        self._program, self._parent_dir = program, parent
        self._space, self._hardware = program.spaces[space], program.hardware[hardware]
        self._shape = program.parents[self._space.parent].shape
        self._device, self._dtype = device_of(self._hardware)
        self._timers: dict[Workload, Timer] = {}

    def kind(self) -> str:
        """Describe the machine as `stopwatch.machine` does."""
        return machine(self._device)

    def place(self) -> Place:
        """Load the parent; return the facts. Raises DiagnosticError if it cannot be loaded, and as `batches_of` does."""
        host = self._host
        scenarios = [s for s in self._program.scenarios.values() if s.hardware == self._hardware.name]
        stored, memory = Widths.of(self._dtype), memory_bytes(self._hardware, self._device)
        return Place(
            shape=self._shape,
            config=host.model.config.to_json_string(),
            machine=machine(self._device),
            dtype=next(word for word, known in DTYPES.items() if known == self._dtype),
            stored=stored,
            memory_bytes=memory,
            rounds=rounds_needed(host.kinds, host.alternatives),
            batches=batches_of(scenarios, self._shape, stored, memory, self._device.type),
            layers_with_weights=layers_with_weights(layers(host.model)),
        )

    def round(self, workload: Workload, seed: int) -> Round:
        """Measure one arrangement of alternatives, drawn by `seed`, and the parent beside it."""
        return self._timer(workload).round(seed)

    def check(self, workload: Workload, seed: int) -> Check:
        """Measure one random child, drawn by `seed`, in turn with the parent."""
        return self._timer(workload).check(seed)

    @cached_property
    def _host(self) -> Host:
        free = free_bytes(self._device)
        parent = load_parent(
            self._parent_dir, dtype=self._dtype, device=self._device, room_bytes=int(TIMED_SHARE * free)
        )
        return Host(parent, alternatives_of(self._space, self._shape), int(TIMED_POOL_SHARE * free))

    def _timer(self, workload: Workload) -> Timer:
        """Return the timer of a workload. The timer of any other workload is dropped, with its caches."""
        if workload not in self._timers:
            self._timers = {workload: Timer(self._host, self._space, workload)}
        return self._timers[workload]


def batches_of(
    scenarios: Iterable[Scenario], shape: Shape, stored: Widths, memory_bytes: int, device: str
) -> dict[str, list[int]]:
    """Return each scenario's batches, ascending: the declared ones; of `auto` 1, 2, 4, … within memory and AUTO_PREFILL_TOKENS.

    `device`: torch's type, such as `cuda`. Raises DiagnosticError (NoWorkload) if `auto` leaves no batch, not even 1.
    """
    free, found = memory_bytes - round(facts.total_params(shape) * stored.weight), {}
    most_tokens = AUTO_PREFILL_TOKENS.get(device, AUTO_PREFILL_TOKENS["cpu"])
    for scenario in scenarios:
        one = Workload.of(scenario, 1)
        sequence = sum(
            len(layers) * sizes_of(own, ParentAttention(), one, stored)["kv_cache_bytes"]
            for own, layers in shape.kinds()
        )
        limit = min(max(1, most_tokens // max(1, scenario.prompt)), free // max(1, sequence))
        if limit < 1 and not scenario.batches:
            span = span_of(scenario.where)
            raise DiagnosticError(NoWorkload(span, scenario=scenario.name, hardware=scenario.hardware))
        found[scenario.name] = sorted({*scenario.batches} or {1 << p for p in range(limit.bit_length())})
    return found
