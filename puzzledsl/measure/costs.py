"""The cost table of a space on this machine: every distinct alternative is timed once, not once a layer.

Guaranteed before: the program is checked, `parent_dir` holds the weights of the space's parent. Method: whole models
whose layers hold random mixtures of the alternatives are run beside the parent, with the time of every sub-block noted
(`laps`, `rounds`); one time an alternative is estimated from all of them, scaled to the parent (`estimate`); random
whole children show the error of a sum of such times.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Hardware, Program, Scenario, Shape
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import CostTable, ScenarioCosts
from puzzledsl.measure.cells import measure_cell, sizes_of
from puzzledsl.measure.device import device_of, measured_scenarios, memory_bytes
from puzzledsl.measure.errors import NoWorkload
from puzzledsl.measure.host import Host, alternatives_of
from puzzledsl.measure.stopwatch import machine
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.load import load_parent

AUTO_PREFILL_TOKENS = {"cpu": 8192, "cuda": 1 << 18}  # an `auto` batch is tried up to this many prompt tokens


def measure_costs(
    program: Program, space: str, parent_dir: Path, work: Path, progress: Progress
) -> CostTable:
    """Costs of a space in every scenario on a `measured(...)` hardware; other scenarios are left out.

    An interrupted run resumes from the files in `work`, which is removed at the end. Raises DiagnosticError:
    an unknown device or dtype, a parent that cannot be loaded, an alternative that cannot be built.
    """
    here = program.spaces[space]
    shape = program.parents[here.parent].shape
    tables: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    by_hardware: dict[str, list[Scenario]] = {}
    for name, hardware in measured_scenarios(program).items():
        by_hardware.setdefault(hardware.name, []).append(program.scenarios[name])
    for hardware_name, scenarios in by_hardware.items():
        hardware = program.hardware[hardware_name]
        device, dtype = device_of(hardware)
        host = Host(load_parent(parent_dir, dtype=dtype, device=device), alternatives_of(here, shape))
        for scenario in scenarios:
            cells = [
                measure_cell(host, here, scenario, batch, shape, work, progress)
                for batch in _batches(hardware, shape, scenario, device, dtype)
            ]
            capacity = None if scenario.batches else memory_bytes(hardware, device)
            tables[scenario.name] = tuple(c.model_copy(update={"capacity_bytes": capacity}) for c, _ in cells)
            checks = "; ".join(note for _, note in cells)
            provenance[scenario.name] = f"measured on {machine(device)}, {_dtype_name(dtype)}; {checks}"
    shutil.rmtree(work, ignore_errors=True)
    layers = [*zip(shape.each, here.layers, strict=True)]
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=tables,
        params_fixed=fixed_size(shape).params,
        params_attention=tuple(
            {a.name: a.params(own) for a in layer.with_parent().attention} for own, layer in layers
        ),
        params_ffn=tuple({f.name: f.params(own) for f in layer.with_parent().ffn} for own, layer in layers),
    )


def _batches(
    hardware: Hardware, shape: Shape, scenario: Scenario, device: torch.device, dtype: torch.dtype
) -> list[int]:
    """The declared batches, or for `auto` the powers of two at which the parent fits and that are quick enough to time."""
    if scenario.batches:
        return sorted(set(scenario.batches))
    free = memory_bytes(hardware, device) - facts.total_params(shape) * dtype.itemsize
    sequence = sum(
        len(layers) * sizes_of(own, ParentAttention(), Workload.of(scenario, 1), dtype)["kv_cache_bytes"]
        for own, layers in shape.kinds()
    )
    limit = min(
        AUTO_PREFILL_TOKENS.get(device.type, AUTO_PREFILL_TOKENS["cpu"]) // max(1, scenario.prompt),
        free // max(1, sequence),
    )
    if limit < 1:
        raise DiagnosticError(
            NoWorkload(span_of(scenario.where), scenario=scenario.name, hardware=hardware.name)
        )
    return [1 << power for power in range(limit.bit_length())]


def _dtype_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
