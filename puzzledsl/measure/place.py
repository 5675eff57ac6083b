"""The machine that times are taken on, and the object that takes them there.

Plain `generate` of the parent must take as long as the timer of `pzl measure`. The plain model is transformers' own class, made
anew as a user makes it, but sharing the storage of the parent's weights. Both run the same prompt and the same first steps, in
turn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.diagnostics import DiagnosticError, SeveralGpus
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir import facts
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware, MeasuredHardware, Program, Scenario, Shape
from puzzledsl.measure.errors import NoSuchDevice, NoSuchDtype, NoWorkload
from puzzledsl.measure.estimate import Check, Round, Timer, rounds_needed
from puzzledsl.measure.host import Host, alternatives_of
from puzzledsl.measure.stopwatch import CpuStopwatch, machine
from puzzledsl.measure.whole import Forward, Widths, Workload, prompt_ids, sizes_of
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import empty_model, load_parent
from puzzledsl.models.families.slots import layers_with_weights
from puzzledsl.models.placement import free_bytes
from puzzledsl.plan.memory.stage_plan import TIMED_POOL_SHARE, TIMED_SHARE

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


TURNS = 3


class PlainCheck(Frozen):
    """Least seconds of one prefill and of one decode step of the parent: as `pzl measure` times them, and in plain `generate`."""

    seed: int = 0
    prefill_s: float
    decode_s: float
    plain_prefill_s: float
    plain_decode_s: float


def measure_plain(model: PreTrainedModel, workload: Workload, turns: int | None = None) -> PlainCheck:
    """Time a frozen model and its plain twin in turn, after a warm-up of both."""
    twin = plain_twin(model)
    timed: list[tuple[float, list[float]]] = []
    plain: list[tuple[float, list[float]]] = []
    for turn in range((turns or TURNS) + 1):
        own, theirs = _timed(model, workload), _generated(twin, workload)
        if turn:
            timed.append(own)
            plain.append(theirs)
    (prefill_s, decode_s), (plain_prefill_s, plain_decode_s) = map(_least, (timed, plain))
    return PlainCheck(
        prefill_s=prefill_s, decode_s=decode_s, plain_prefill_s=plain_prefill_s, plain_decode_s=plain_decode_s
    )


def plain_twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same class and config on the same storage, with `requires_grad` and without hooks."""
    twin = empty_model(type(model), model.config, model.dtype, model.device)
    own, theirs = (dict(m.named_parameters(remove_duplicate=False)) for m in (twin, model))
    for name in own:
        holder, _, leaf = name.rpartition(".")
        parameter = torch.nn.Parameter(theirs[name].detach())
        setattr(twin.get_submodule(holder), leaf, parameter)
    untyped: Any = twin
    untyped.tie_weights()
    for name, buffer in model.named_buffers():
        holder, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(holder), leaf, buffer)
    twin.generation_config = model.generation_config
    return cast(PreTrainedModel, untyped.eval())


@torch.inference_mode()
def _timed(model: PreTrainedModel, workload: Workload) -> tuple[float, list[float]]:
    """Seconds of a prefill and of the first steps after it, as `WholeTimer` times them."""
    forward, watch = Forward(model, workload), CpuStopwatch()
    prefill_s = sum(watch.prepare(forward.prefill)())
    step = watch.prepare(forward.decode_step)
    return prefill_s, [sum(step()) for _ in range(workload.window)]


class _Clock(StoppingCriteria):
    """Recorder of the moment at which each token is chosen."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.moments.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _generated(twin: PreTrainedModel, workload: Workload) -> tuple[float, list[float]]:
    """Seconds of a prefill and of the first steps after it, in `generate`. Its preparations before the prefill do not count."""
    ids, clock = prompt_ids(twin, workload), _Clock()
    began: list[float] = []
    handle = twin.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
    try:
        untyped: Any = twin
        untyped.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=workload.window + 1,
            min_new_tokens=workload.window + 1,
            do_sample=False,
            num_beams=1,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
    finally:
        handle.remove()
    first, *later = clock.moments
    steps = [b - a for a, b in zip(clock.moments, later, strict=False)]
    return first - began[0], steps


def _least(turns: list[tuple[float, list[float]]]) -> tuple[float, float]:
    """Return the least seconds of a prefill and of a step: other work on the machine can only lengthen them."""
    return min(prefill for prefill, _ in turns), min(step for _, steps in turns for step in steps)


AUTO_PREFILL_TOKENS = {"cpu": 8192, "cuda": 1 << 18}  # an `auto` batch is tried up to this many prompt tokens


@dataclass(frozen=True)
class Place:
    """Facts of a measurement that are known where the parent is loaded."""

    shape: Shape
    config: str
    """The parent's configuration, as JSON."""
    machine: str
    """Processor, threads, and engine with its version."""
    dtype: str
    stored: Widths
    memory_bytes: int
    rounds: int
    batches: Mapping[str, Sequence[int]]
    """Batches of each scenario, ascending."""
    layers_with_weights: int
    """Layers of the parent that have weights of their own; the others use these, where not all fit into memory."""
    whole: bool = False
    """True if only whole models can be timed, not the sub-blocks in them."""
    plain: bool = False
    """True if the parent is timed in plain `generate`, too. On a GPU, CUDA graphs leave out what `generate` does in Python."""


class Clock:
    """Times a space's alternatives and children on the device of a `measured(...)` hardware, with the parent loaded there."""

    def __init__(
        self, program: Program, space: str, parent_dir: Path, hardware: str, member: int = 0
    ) -> None:
        """Find the device. Raises DiagnosticError: those of `device_of`."""
        self._program, self._parent_dir = program, parent_dir
        self._space, self._hardware = program.spaces[space], program.hardware[hardware]
        self._shape = program.parents[self._space.parent].shape
        self._device, self._dtype = device_of(self._hardware)
        self._timers: dict[Workload, Timer] = {}

    def kind(self) -> str:
        """Return the kind of the device."""
        return machine(self._device)

    def place(self) -> Place:
        """Return the facts. Raises DiagnosticError: a parent that cannot be loaded, or that does not fit with any batch."""
        host = self._host
        scenarios = [
            self._program.scenarios[name]
            for name, hardware in measured_scenarios(self._program).items()
            if hardware.name == self._hardware.name
        ]
        stored, memory = Widths.of(self._dtype), memory_bytes(self._hardware, self._device)
        on = Limits(self._hardware.name, self._shape, stored, memory, self._device.type)
        return Place(
            shape=self._shape,
            config=host.model.config.to_json_string(),
            machine=machine(self._device),
            dtype=next(word for word, known in DTYPES.items() if known == self._dtype),
            stored=stored,
            memory_bytes=memory,
            rounds=rounds_needed(host.kinds, host.alternatives),
            batches={scenario.name: on.batches(scenario) for scenario in scenarios},
            plain=self._device.type == "cpu",
            layers_with_weights=layers_with_weights(layers(host.model)),
        )

    def round(self, workload: Workload, seed: int) -> Round:
        """Measure one arrangement."""
        return self._timer(workload).round(seed)

    def check(self, workload: Workload, seed: int) -> Check:
        """Measure one random child."""
        return self._timer(workload).check(seed)

    def plain(self, workload: Workload, seed: int) -> PlainCheck:
        """Time the parent as here and in plain `generate`."""
        self._host.arrange(self._host.parent())
        return measure_plain(self._host.model, workload)

    @cached_property
    def _host(self) -> Host:
        free = free_bytes(self._device)
        parent = load_parent(
            self._parent_dir, dtype=self._dtype, device=self._device, room_bytes=int(TIMED_SHARE * free)
        )
        return Host(parent, alternatives_of(self._space, self._shape), int(TIMED_POOL_SHARE * free))

    def _timer(self, workload: Workload) -> Timer:
        """Return the timer of a workload; the last one's caches are dropped."""
        if workload not in self._timers:
            self._timers = {workload: Timer(self._host, self._space, workload)}
        return self._timers[workload]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an `auto` batch on a hardware."""

    hardware: str
    shape: Shape
    stored: Widths
    memory_bytes: int
    device: str

    def batches(self, scenario: Scenario) -> list[int]:
        """The declared batches, or for `auto` powers of two that fit and are quick to time. Raises DiagnosticError."""
        if scenario.batches:
            return sorted(set(scenario.batches))
        free = self.memory_bytes - round(facts.total_params(self.shape) * self.stored.weight)
        one = Workload.of(scenario, 1)
        sequence = sum(
            len(layers) * sizes_of(own, ParentAttention(), one, self.stored)["kv_cache_bytes"]
            for own, layers in self.shape.kinds()
        )
        limit = min(
            AUTO_PREFILL_TOKENS.get(self.device, AUTO_PREFILL_TOKENS["cpu"]) // max(1, scenario.prompt),
            free // max(1, sequence),
        )
        if limit < 1:
            problem = NoWorkload(span_of(scenario.where), scenario=scenario.name, hardware=self.hardware)
            raise DiagnosticError(problem)
        return [1 << power for power in range(limit.bit_length())]
