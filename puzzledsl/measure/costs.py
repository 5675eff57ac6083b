"""The cost table of a space on this machine: every distinct alternative is timed once, not once a layer.

Guaranteed before: the program is checked, `parent_dir` holds the weights of the space's parent. Method: whole models
whose layers hold random mixtures of the alternatives are run beside the parent, with the time of every sub-block noted
(`laps`, `rounds`); one time an alternative is estimated from all of them, scaled to the parent (`estimate`); random
whole children say how far a sum of such times is off.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch

from puzzledsl.cost.parameters import fixed_size, kv_heads_of, size_of
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import Alternative, GqaAttention, ParentAttention, ParentFfn, SubBlock, name_of
from puzzledsl.ir.nodes import Hardware, Program, Scenario, Shape, Space
from puzzledsl.ir.tables import Cost, CostTable, ScenarioCosts
from puzzledsl.measure.errors import NoWorkload
from puzzledsl.measure.estimate import FIXED, Estimate, Key, estimate
from puzzledsl.measure.host import SUB_BLOCKS, Host, alternatives_of
from puzzledsl.measure.rounds import (
    CHECKED_CHILDREN,
    mean_size,
    measure_checks,
    measure_rounds,
    rounds_needed,
    speed_up_errors,
)
from puzzledsl.parents.load import load_parent
from puzzledsl.progress import Progress
from puzzledsl.timing.device import device_of, measured_scenarios, memory_bytes
from puzzledsl.timing.stopwatch import machine
from puzzledsl.timing.whole import Workload

AUTO_PREFILL_TOKENS = {"cpu": 8192, "cuda": 1 << 18}  # an `auto` batch is tried up to this many prompt tokens
METHOD = "1"  # raise it when what is measured changes, so that unfinished work is not continued
NS_PER_S = 10**9


def measure_costs(program: Program, space: str, parent_dir: Path, work: Path, progress: Progress) -> CostTable:
    """Costs of a space in every scenario on a `measured(...)` hardware; other scenarios are left out.

    Interrupted, it goes on where it was, from the files in `work`, which is removed at the end. Raises DiagnosticError:
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
        host = Host(load_parent(parent_dir, dtype=dtype, device=device), alternatives_of(here))
        for scenario in scenarios:
            cells = [
                _measure_cell(host, here, scenario, batch, shape, work, progress)
                for batch in _batches(hardware, shape, scenario, device, dtype)
            ]
            capacity = None if scenario.batches else memory_bytes(hardware, device)
            tables[scenario.name] = tuple(c.model_copy(update={"capacity_bytes": capacity}) for c, _ in cells)
            checks = "; ".join(note for _, note in cells)
            provenance[scenario.name] = f"measured on {machine(device)}, {_dtype_name(dtype)}; {checks}"
    shutil.rmtree(work, ignore_errors=True)
    return CostTable(
        space=space,
        provenance=provenance,
        scenarios=tables,
        params_fixed=fixed_size(shape).params,
        params_attention=tuple(
            {name_of(a): size_of(shape, a).params for a in (ParentAttention(), *layer.attention)} for layer in here.layers
        ),
        params_ffn=tuple(
            {name_of(f): size_of(shape, f).params for f in (ParentFfn(), *layer.ffn)} for layer in here.layers
        ),
    )


def _batches(
    hardware: Hardware, shape: Shape, scenario: Scenario, device: torch.device, dtype: torch.dtype
) -> list[int]:
    """The declared batches, or for `auto` the powers of two at which the parent fits and that are quick enough to time."""
    if scenario.batches:
        return sorted(set(scenario.batches))
    parent = _sizes(shape, ParentAttention(), Workload.of(scenario, 1), dtype)
    params = fixed_size(shape).params + shape.layers * (
        size_of(shape, ParentAttention()).params + size_of(shape, ParentFfn()).params
    )
    free = memory_bytes(hardware, device) - params * dtype.itemsize
    limit = min(
        AUTO_PREFILL_TOKENS.get(device.type, AUTO_PREFILL_TOKENS["cpu"]) // max(1, scenario.prompt),
        free // max(1, shape.layers * parent["kv_cache_bytes"]),
    )
    if limit < 1:
        raise DiagnosticError(NoWorkload(None, scenario=scenario.name, hardware=hardware.name))
    return [1 << power for power in range(limit.bit_length())]


def _measure_cell(
    host: Host, space: Space, scenario: Scenario, batch: int, shape: Shape, work: Path, progress: Progress
) -> tuple[ScenarioCosts, str]:
    """One scenario at one batch, and a note of how far sums are off."""
    workload = Workload.of(scenario, batch)
    partial = work / _digest(host, space, workload)
    most = max(len(host.alternatives[sub_block]) for sub_block in SUB_BLOCKS)
    progress.start(f"measuring {scenario.name}, batch {batch}", rounds_needed(most, host.depth) + CHECKED_CHILDREN)
    rounds = measure_rounds(host, workload, partial.with_suffix(".rounds.jsonl"), progress)
    prefill, decode = estimate(rounds, lambda r: r.prefill), estimate(rounds, lambda r: r.decode)
    checks = measure_checks(host, space, workload, partial.with_suffix(".checks.jsonl"), progress)
    errors = list(speed_up_errors(checks, prefill, decode, workload.output))
    off = {
        what: mean_size([error[i] for error in errors]) for i, what in enumerate(("prefill", "decode", "latency"))
    }
    for check, (prefill_error, decode_error, latency_error) in zip(checks, errors, strict=True):
        progress.log(
            "measure_check",
            scenario=scenario.name,
            batch=batch,
            child=check.seed,
            speed_up=round(check.latency_speed_up(workload.output), 3),
            prefill_error=round(prefill_error, 4),
            decode_error=round(decode_error, 4),
            latency_error=round(latency_error, 4),
        )
    progress.log(
        "measured",
        scenario=scenario.name,
        batch=batch,
        scale_prefill=round(prefill.scale, 4),
        scale_decode=round(decode.scale, 4),
        parent_prefill_s=prefill.parent_s,
        parent_decode_s=decode.parent_s,
        **{f"error_{what}": round(value, 4) for what, value in off.items()},
        stderr={
            f"{key[0]}.{key[1]}": [round(e.stderr[key] / e.seconds[key], 4) if e.seconds[key] else 0 for e in (prefill, decode)]
            for key in prefill.seconds
        },
    )
    dtype = host.model.dtype
    names: dict[SubBlock, dict[str, Cost]] = {sub_block: {} for sub_block in SUB_BLOCKS}
    for sub_block in SUB_BLOCKS:
        for name, alternative in host.alternatives[sub_block].items():
            times = _times((sub_block, name), prefill, decode)
            names[sub_block][name] = Cost(**_sizes(shape, alternative, workload, dtype), **times)
    fixed = fixed_size(shape).params
    note = f"speed-up of a sum off by {off['latency']:.1%} (batch {batch}, {len(checks)} random children)"
    return (
        ScenarioCosts(
            scenario=scenario.name,
            batch=batch,
            prompt=scenario.prompt,
            output=scenario.output,
            fixed=Cost(
                params=fixed,
                weights_bytes=fixed * dtype.itemsize,
                kv_cache_bytes=0,
                **_times(FIXED, prefill, decode),
            ),
            attention=tuple(
                {n: names["attention"][n] for n in map(name_of, (ParentAttention(), *layer.attention))}
                for layer in space.layers
            ),
            ffn=tuple({n: names["ffn"][n] for n in map(name_of, (ParentFfn(), *layer.ffn))} for layer in space.layers),
        ),
        note,
    )


def _times(key: Key, prefill: Estimate, decode: Estimate) -> dict[str, int]:
    return {
        "prefill_ns": round(prefill.seconds[key] * NS_PER_S),
        "decode_ns": round(decode.seconds[key] * NS_PER_S),
    }


def _sizes(shape: Shape, alternative: Alternative, workload: Workload, dtype: torch.dtype) -> dict[str, int]:
    """Parameters and bytes, exact. A window caps the cache: a runtime that knows it frees what cannot be seen."""
    params = size_of(shape, alternative).params
    length = workload.prompt + workload.output
    if isinstance(alternative, GqaAttention) and alternative.window is not None:
        length = min(length, alternative.window)
    per_token = 2 * kv_heads_of(shape, alternative) * shape.head_dim * dtype.itemsize
    return {
        "params": params,
        "weights_bytes": params * dtype.itemsize,
        "kv_cache_bytes": workload.batch * length * per_token,
    }


def _digest(host: Host, space: Space, workload: Workload) -> str:
    """What unfinished work belongs to: workload, layers, parent, machine."""
    parts = [METHOD, repr(workload), host.model.config.to_json_string(), machine(host.model.device), str(host.model.dtype)]
    parts += [layer.model_dump_json() for layer in space.layers]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _dtype_name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
