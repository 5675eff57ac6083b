"""Measure one scenario at one batch: time it, estimate sub-block costs, check them and return cost-table entries.

Sizes are computed exactly, not measured; times are whole nanoseconds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.progress import Progress
from puzzledsl.costs.dtypes import STATE_BYTES
from puzzledsl.costs.flops import fixed_flop, sub_block_flop
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir.nodes import Scenario, Shape, Space
from puzzledsl.ir.tables import Cost, ScenarioCosts
from puzzledsl.measure.estimate import FIXED, Estimate, Key, estimate
from puzzledsl.measure.host import Host, label
from puzzledsl.measure.rounds import (
    CHECKED_CHILDREN,
    Check,
    mean_size,
    measure_checks,
    measure_rounds,
    rounds_needed,
    speed_up_errors,
)
from puzzledsl.measure.stopwatch import machine
from puzzledsl.measure.whole import Workload

METHOD = "1"  # raise it when what is measured changes, so that unfinished work is not continued
NS_PER_S = 10**9


def measure_cell(
    host: Host, space: Space, scenario: Scenario, batch: int, shape: Shape, work: Path, progress: Progress
) -> tuple[ScenarioCosts, str]:
    """Return one scenario's costs at one batch, and a note with the error of summed costs."""
    workload = Workload.of(scenario, batch)
    partial = work / _digest(host, space, workload)
    progress.start(f"measuring {scenario.name}, batch {batch}", rounds_needed(host) + CHECKED_CHILDREN)
    rounds = measure_rounds(host, workload, partial.with_suffix(".rounds.jsonl"), progress)
    prefill, decode = estimate(rounds, lambda r: r.prefill), estimate(rounds, lambda r: r.decode)
    checks = measure_checks(host, space, workload, partial.with_suffix(".checks.jsonl"), progress)
    latency_error = _report(scenario, workload, prefill, decode, checks, progress)
    note = f"speed-up of a sum off by {latency_error:.1%} (batch {batch}, {len(checks)} random children)"
    return _costs(host, space, scenario, workload, shape, prefill, decode), note


def _costs(
    host: Host,
    space: Space,
    scenario: Scenario,
    workload: Workload,
    shape: Shape,
    prefill: Estimate,
    decode: Estimate,
) -> ScenarioCosts:
    dtype = host.model.dtype

    def times(key: Key) -> dict[str, int]:
        return {
            "prefill_ns": round(prefill.seconds[key] * NS_PER_S),
            "decode_ns": round(decode.seconds[key] * NS_PER_S),
        }

    def cost(sub_block: SubBlock, layer_idx: int, alternative: Alternative) -> Cost:
        key = sub_block, label(alternative.name, host.kinds[layer_idx])
        return Cost(**sizes_of(shape.at(layer_idx), alternative, workload, dtype), **times(key))

    fixed, flop = fixed_size(shape).params, fixed_flop(shape, workload)
    return ScenarioCosts(
        scenario=scenario.name,
        batch=workload.batch,
        prompt=workload.prompt,
        output=workload.output,
        fixed=Cost(
            params=fixed,
            weights_bytes=fixed * dtype.itemsize,
            kv_cache_bytes=0,
            prefill_flop=flop,
            decode_flop=flop,
            **times(FIXED),
        ),
        attention=tuple(
            {a.name: cost("attention", index, a) for a in layer.with_parent().attention}
            for index, layer in enumerate(space.layers)
        ),
        ffn=tuple(
            {f.name: cost("ffn", index, f) for f in layer.with_parent().ffn}
            for index, layer in enumerate(space.layers)
        ),
    )


def sizes_of(
    shape: Shape, alternative: Alternative, workload: Workload, dtype: torch.dtype
) -> dict[str, int]:
    """Return parameters, bytes and FLOP in one layer, exactly. A window caps the cache: a runtime frees older tokens."""
    params = alternative.size(shape).params
    prefill_flop, decode_flop = sub_block_flop(shape, alternative, workload)
    length = workload.prompt + workload.output
    if (window := alternative.attended(shape)) is not None:
        length = min(length, window)
    per_token = 2 * alternative.cached_heads(shape) * shape.head_dim * dtype.itemsize
    state = alternative.state_size(shape)
    kept = state.conv * dtype.itemsize + state.scan * int(STATE_BYTES)
    return {
        "params": params,
        "weights_bytes": params * dtype.itemsize,
        "kv_cache_bytes": workload.batch * (length * per_token + kept),
        "prefill_flop": prefill_flop,
        "decode_flop": decode_flop,
    }


def _report(
    scenario: Scenario,
    workload: Workload,
    prefill: Estimate,
    decode: Estimate,
    checks: list[Check],
    progress: Progress,
) -> float:
    """Log the measurements and the errors of summed costs; return the mean error of the latency speed-up."""
    where = {"scenario": scenario.name, "batch": workload.batch}
    errors = list(speed_up_errors(checks, prefill, decode, workload.output))
    for check, of_prefill, of_decode, of_latency in ((c, *e) for c, e in zip(checks, errors, strict=True)):
        progress.log(
            "measure_check",
            **where,
            child=check.seed,
            speed_up=round(check.latency_speed_up(workload.output), 3),
            prefill_error=round(of_prefill, 4),
            decode_error=round(of_decode, 4),
            latency_error=round(of_latency, 4),
        )
    off = [mean_size(list(one)) for one in zip(*errors, strict=True)]
    progress.log(
        "measured",
        **where,
        parent_prefill_s=prefill.parent_s,
        parent_decode_s=decode.parent_s,
        scale_prefill=round(prefill.scale, 4),
        scale_decode=round(decode.scale, 4),
        error_prefill=round(off[0], 4),
        error_decode=round(off[1], 4),
        error_latency=round(off[2], 4),
        spread_prefill=prefill.relative_spread,
        spread_decode=decode.relative_spread,
    )
    return off[2]


def _digest(host: Host, space: Space, workload: Workload) -> str:
    """Return the key of unfinished work: a digest of workload, layers, parent and machine."""
    model = host.model
    parts = [METHOD, repr(workload), model.config.to_json_string(), machine(model.device), str(model.dtype)]
    parts += [layer.model_dump_json() for layer in space.layers]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
