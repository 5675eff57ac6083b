"""Measure one scenario at one batch: time it, estimate sub-block costs, check them and return cost-table entries.

Sizes are computed exactly, not measured; times are whole nanoseconds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Task, Teams
from puzzledsl.costs.flops import fixed_flop
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir.nodes import Scenario, Space
from puzzledsl.ir.tables import Cost, ScenarioCosts
from puzzledsl.measure.estimate import FIXED, Estimate, Key, estimate
from puzzledsl.measure.host import kinds_of, label
from puzzledsl.measure.laps import Round
from puzzledsl.measure.place import Place
from puzzledsl.measure.rounds import CHECKED_CHILDREN, Check, Unfinished, mean_size, speed_up_errors
from puzzledsl.measure.sizes import sizes_of
from puzzledsl.measure.stopwatch import undisturbed
from puzzledsl.measure.whole import Workload

METHOD = "1"  # raise it when what is measured changes, so that unfinished work is not continued
NS_PER_S = 10**9


def measure_cell(
    teams: Teams, place: Place, space: Space, scenario: Scenario, batch: int, work: Path, progress: Progress
) -> tuple[ScenarioCosts, str]:
    """Return one scenario's costs at one batch, and a note with the error of summed costs.

    Each round and each check is a task for a worker, which has a processor for itself.
    """
    workload = Workload.of(scenario, batch)
    partial = work / _digest(place, space, workload)
    rounds = Unfinished(partial.with_suffix(".rounds.jsonl"), Round, place.rounds)
    checks = Unfinished(partial.with_suffix(".checks.jsonl"), Check, CHECKED_CHILDREN)
    progress.start(f"measuring {scenario.name}, batch {batch}", place.rounds + CHECKED_CHILDREN)
    progress.advance(len(rounds.done) + len(checks.done))
    tasks = [Task.call(("round", seed), "round", workload, seed) for seed in rounds.missing]
    tasks += [Task.call(("check", seed), "check", workload, seed) for seed in checks.missing]
    for _, new in teams.run(tasks):
        match new:
            case Round():
                rounds.add(new)
                progress.advance(
                    parent_prefill_ms=round(1e3 * new.prefill.parent[0], 1),
                    parent_step_ms=round(1e3 * undisturbed(new.decode.parent), 2),
                )
            case Check():
                checks.add(new)
                progress.advance()
    prefill, decode = estimate(rounds.all(), lambda r: r.prefill), estimate(rounds.all(), lambda r: r.decode)
    latency_error = _report(scenario, workload, prefill, decode, checks.all(), progress)
    note = f"speed-up of a sum off by {latency_error:.1%} (batch {batch}, {CHECKED_CHILDREN} random children)"
    return _costs(place, space, scenario, workload, prefill, decode), note


def _costs(
    place: Place,
    space: Space,
    scenario: Scenario,
    workload: Workload,
    prefill: Estimate,
    decode: Estimate,
) -> ScenarioCosts:
    shape, dtype = place.shape, place.dtype
    kinds = kinds_of(shape)

    def times(key: Key) -> dict[str, int]:
        return {
            "prefill_ns": round(prefill.seconds[key] * NS_PER_S),
            "decode_ns": round(decode.seconds[key] * NS_PER_S),
        }

    def cost(sub_block: SubBlock, layer_idx: int, alternative: Alternative) -> Cost:
        key = sub_block, label(alternative.name, kinds[layer_idx])
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


def _digest(place: Place, space: Space, workload: Workload) -> str:
    """Return the key of unfinished work: a digest of workload, layers, parent and machine."""
    parts = [METHOD, repr(workload), place.config, place.machine, str(place.dtype)]
    parts += [layer.model_dump_json() for layer in space.layers]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
