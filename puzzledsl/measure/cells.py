"""The cost table of a space on this machine: a time for every distinct alternative, not one for each layer.

Guaranteed before: the program is checked, `parent_dir` holds the weights of the space's parent. In PyTorch, models whose layers
hold random mixtures of the alternatives run beside the parent, and every sub-block is timed in them. One time per alternative is
estimated from all of them, and scaled to the parent (`estimate`). Random whole children show the error of a sum of such times.
In an engine that serves exported models, only whole models can be timed, and the times of alternatives are fitted to theirs
(`whole_fit`), with a prior: a decode step or a prefill takes as long as it reads (weights, and in a decode step the KV cache) or
computes, whichever is longer. Children that a search would choose by these times show the error of the times, and correct them.
Sizes are computed exactly; times are whole nanoseconds.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, Task, Teams, TeamSpec
from puzzledsl.costs.flops import fixed_flop, fixed_size
from puzzledsl.costs.roofline import FREE
from puzzledsl.ir.facts import untied_params
from puzzledsl.ir.nodes import Program, Scenario, Shape, Space
from puzzledsl.ir.runtimes import engine_of, measured_in
from puzzledsl.ir.tables import PARENT_ENDS, CellTiming, Cost, CostTable, ScenarioCosts
from puzzledsl.measure.estimate import (
    CHECK_ROUNDS,
    CHECKED_CHILDREN,
    FIXED,
    Check,
    Estimate,
    Round,
    Unfinished,
    estimate,
    speed_up_errors,
)
from puzzledsl.measure.host import PARENT, Key, alternatives_of, kind_of, label
from puzzledsl.measure.place import Clock, Place
from puzzledsl.measure.stopwatch import deviation, undisturbed
from puzzledsl.measure.whole import (
    Widths,
    Workload,
    bytes_of,
    ends_bytes,
    needs_prefill,
    served_work,
    sizes_of,
    timed_work,
)
from puzzledsl.measure.whole_fit import fit_whole
from puzzledsl.plan.flop import FLOP_PER_BYTE


def expected_times(
    shape: Shape, space: Space, workload: Workload, stored: Widths
) -> tuple[dict[Key, float], dict[Key, float]]:
    """Return prior times of prefill and of a decode step, as bytes read in them: of alternatives, and the fixed part or ends."""
    heads: dict[Key, float] = {FIXED: float(fixed_size(shape).params * stored.weight)}
    if space.ends is not None:
        ends = space.ends.by_name().items()
        heads = {("ends", name): float(bytes_of(output.size(shape), stored)) for name, (_, output) in ends}
    prefill = {key: max(head, fixed_flop(shape, workload) / FLOP_PER_BYTE) for key, head in heads.items()}
    decode = dict(prefill)
    first = {kind: layers[0] for kind, (_, layers) in enumerate(shape.kinds())}
    for sub_block, labels in alternatives_of(space, shape).items():
        for name, alternative in labels.items():
            own = shape.at(first[kind_of(name)])
            sizes = sizes_of(own, alternative, workload, stored)
            read = float(sizes["weights_bytes"])
            prefill[sub_block, name], decode[sub_block, name] = (
                max(read, sizes["prefill_flop"] / FLOP_PER_BYTE),
                max(read + sizes["kv_cache_bytes"], sizes["decode_flop"] / FLOP_PER_BYTE),
            )
    return prefill, decode


METHOD = "5"  # raise it when what is measured changes, so that unfinished work is not continued
NS_PER_S = 10**9


def measure_cell(
    teams: Teams,
    place: Place,
    space: Space,
    scenario: Scenario,
    workload: Workload,
    work: Path,
    progress: Progress,
) -> tuple[ScenarioCosts, CellTiming, str]:
    """Measure one scenario at one batch size; return its costs, their timing and errors, and a sentence on the error.

    Each round and each check is a task for a worker that has a processor to itself. In an engine, each check times a child that a
    search would choose by the times so far, which are then fitted again. `work`: the folder of unfinished rounds and checks.
    """
    batch = workload.batch
    partial = work / _digest(place, space, workload)
    kind: type[Round | Check] = Check if place.whole else Round
    rounds = Unfinished[Any](partial.with_suffix(".rounds"), kind, place.rounds)
    checks = Unfinished(partial.with_suffix(".checks"), Check, CHECKED_CHILDREN)
    here: dict[str, Any] = {"of": f"{scenario.name}, batch {batch}"}
    of_round, of_check = _efforts(place, [scenario], workload)
    kept = len(rounds.done) * of_round + len(checks.done) * of_check
    progress.advance(len(rounds.done) + len(checks.done), kept=True, work=kept, **here)

    def run(what: str, seeds: Sequence[int], *of: object) -> None:
        for task, new in teams.run([Task.call((what, seed), what, workload, seed, *of) for seed in seeds]):
            (rounds if task.name[0] == "round" else checks).add(new)
            if isinstance(new, Round):
                shown = _shown(new.prefill.parent[0], undisturbed(new.decode.parent))
            else:
                shown = _shown(new.parent_prefill_s, new.parent_decode_s)
            progress.advance(work=of_round if what == "round" else of_check, **here, **shown)

    run("round", rounds.missing)
    found, by = _estimates(place, space, workload, rounds.all()), list[tuple[Estimate, Estimate]]()
    if not place.whole:
        run("check", checks.missing)
        by = [found] * CHECKED_CHILDREN
    else:
        for seed in range(CHECKED_CHILDREN):
            by.append(found)
            if seed in checks.missing:
                prefill, decode = found
                times = {k: prefill.seconds[k] + workload.output * decode.seconds[k] for k in decode.seconds}
                run("check", [seed], times)
            known = [checks.done[each] for each in range(seed + 1)]
            found = _estimates(place, space, workload, [*rounds.all(), *known])
    errors = _report(scenario, workload, found, [*zip(checks.all(), by, strict=True)], progress)
    children = f"{CHECKED_CHILDREN} {'searched' if place.whole else 'random'} children"
    corrected = ", by which it was then corrected" if place.whole else ""
    note = f"speed-up of a sum off by {errors[2]:.1%} (batch {batch}, {children}{corrected})"
    timing = _timing(scenario, workload, *found, errors, rounds.all())
    return _costs(place, space, scenario, workload, *found), timing, note


def _shown(prefill_s: float, decode_s: float) -> dict[str, Any]:
    return {"parent_prefill_ms": round(1e3 * prefill_s, 1), "parent_step_ms": round(1e3 * decode_s, 2)}


def _estimates(
    place: Place, space: Space, workload: Workload, rounds: Sequence[Any]
) -> tuple[Estimate, Estimate]:
    """Return the times of prefill and of a decode step."""
    if not place.whole:
        return estimate(rounds, lambda r: r.prefill), estimate(rounds, lambda r: r.decode)
    priors = expected_times(place.shape, space, workload, place.stored)
    kinds = place.shape.kind_of_each
    parent: list[Key] = [(part, label(PARENT, kind)) for part in SUB_BLOCKS for kind in kinds]
    if space.ends is not None:
        parent.append(("ends", PARENT_ENDS.name))
    prefill, decode = (
        fit_whole(rounds, phase, prior, parent)
        for phase, prior in zip(("prefill", "decode"), priors, strict=True)
    )
    return prefill, decode


def _timing(
    scenario: Scenario,
    workload: Workload,
    prefill: Estimate,
    decode: Estimate,
    errors: Sequence[float],
    rounds: Sequence[Any],
) -> CellTiming:
    if rounds and isinstance(rounds[0], Round):
        parents = [(r.prefill.parent[0], undisturbed(r.decode.parent)) for r in rounds]
    else:
        parents = [(check.parent_prefill_s, check.parent_decode_s) for check in rounds]
    return CellTiming(
        scenario=scenario.name,
        batch=workload.batch,
        parent_prefill_ns=round(prefill.parent_s * NS_PER_S),
        parent_decode_ns=round(decode.parent_s * NS_PER_S),
        prefill_error=round(errors[0], 4),
        decode_error=round(errors[1], 4),
        latency_error=round(errors[2], 4),
        prefill_spread=round(deviation([pair[0] for pair in parents]), 4),
        decode_spread=round(deviation([pair[1] for pair in parents]), 4),
    )


def _costs(
    place: Place, space: Space, scenario: Scenario, workload: Workload, prefill: Estimate, decode: Estimate
) -> ScenarioCosts:
    shape, stored = place.shape, place.stored
    kinds = shape.kind_of_each

    def times(key: Key) -> dict[str, int]:
        return {
            "prefill_ns": round(prefill.seconds[key] * NS_PER_S),
            "decode_ns": round(decode.seconds[key] * NS_PER_S),
        }

    def cost(sub_block: SubBlock, layer_idx: int, alternative: Alternative) -> Cost:
        key = sub_block, label(alternative.name, kinds[layer_idx])
        return Cost(**sizes_of(shape.at(layer_idx), alternative, workload, stored), **times(key))

    fixed, flop = fixed_size(shape).params, fixed_flop(shape, workload)

    def cost_of_ends(params: int, size: int, key: Key) -> Cost:
        sizes = {"weights_bytes": size, "kv_cache_bytes": 0, "prefill_flop": flop, "decode_flop": flop}
        return Cost(params=params, **sizes, **times(key))

    ends = {
        name: cost_of_ends(
            fixed + untied_params(shape, *name.split("/")), ends_bytes(shape, stored, *both), ("ends", name)
        )
        for name, both in ({} if space.ends is None else space.ends.by_name()).items()
    }
    return ScenarioCosts(
        scenario=scenario.name,
        batch=workload.batch,
        prompt=workload.prompt,
        output=workload.output,
        fixed=FREE if ends else cost_of_ends(fixed, round(fixed * stored.weight), FIXED),
        ends=ends,
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
    found: tuple[Estimate, Estimate],
    checks: Sequence[tuple[Check, tuple[Estimate, Estimate]]],
    progress: Progress,
) -> tuple[float, float, float]:
    """Log the measurements; return the mean absolute errors of predicted speed-ups: in prefill, a decode step and latency.

    Each of `checks` comes with the times that predict it: in an engine, those from before it was measured.
    """
    where, (prefill, decode) = {"scenario": scenario.name, "batch": workload.batch}, found
    errors = list[tuple[float, float, float]]()
    for check, by in checks:
        (error,) = speed_up_errors([check], *by, workload.output)
        errors.append(error)
        of_prefill, of_decode, of_latency = error
        progress.log(
            "measure_check",
            **where,
            child=check.seed,
            speed_up=round(check.latency_speed_up(workload.output), 3),
            prefill_error=round(of_prefill, 4),
            decode_error=round(of_decode, 4),
            latency_error=round(of_latency, 4),
        )
    off = [fmean(map(abs, one)) for one in zip(*errors, strict=True)]
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
    return off[0], off[1], off[2]


def _digest(place: Place, space: Space, workload: Workload) -> str:
    """Return the key of unfinished work: a digest of workload, layers, parent and machine."""
    parts = [METHOD, repr(workload), place.config, place.machine, place.dtype, str(place.whole)]
    parts += [layer.model_dump_json() for layer in space.layers]
    parts += [] if space.ends is None else [space.ends.model_dump_json()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


MakeClock = Callable[[Program, str, Path, str, int], object]
"""Maker of a worker's clock: from the program, the space, the parent's directory, the hardware and the worker's number."""


def measure_costs(
    program: Program,
    space: str,
    parent_dir: Path,
    work: Path,
    progress: Progress,
    executor: Executor | None = None,
    engines: MakeClock | None = None,
) -> CostTable:
    """Return the costs of a space, measured in every scenario on a `measured(...)` hardware; other scenarios are left out.

    `executor` provides the workers that measure, each with a processor of the same kind for itself; default: this process.
    `engines` makes the clocks of hardware with an engine. An interrupted run resumes from the files in `work`, which is removed
    at the end. Raises DiagnosticError: a device that is not here, a parent that cannot be loaded, an alternative that cannot be
    built, and those of an engine.
    """
    here = program.spaces[space]
    shape = program.parents[here.parent].shape
    tables: dict[str, tuple[ScenarioCosts, ...]] = {}
    provenance: dict[str, str] = {}
    timings: list[CellTiming] = []
    by_hardware: dict[str, list[Scenario]] = {}
    for scenario, hardware in measured_in(program, space):
        by_hardware.setdefault(hardware.name, []).append(scenario)
    for hardware_name, scenarios in by_hardware.items():
        make: MakeClock = Clock
        if engine_of(program.hardware[hardware_name]) is not None:
            assert engines is not None, "the pipeline gives it"
            make = engines
        maker = partial(make, program, space, parent_dir.resolve(), hardware_name)
        with (executor or Executor()).open(TeamSpec(maker, alone=True), progress) as teams:
            ((_, place),) = teams.run([Task.call("place", "place")])
            loads = {s.name: [Workload.of(s, batch) for batch in place.batches[s.name]] for s in scenarios}
            efforts = [_efforts(place, [each], load) for each in scenarios for load in loads[each.name]]
            progress.start(f"measuring {space}", len(efforts) * (place.rounds + CHECKED_CHILDREN))
            progress.ready(sum(place.rounds * one + CHECKED_CHILDREN * other for one, other in efforts))
            for scenario in scenarios:
                cells = [
                    measure_cell(teams, place, here, scenario, load, work, progress)
                    for load in loads[scenario.name]
                ]
                capacity = None if scenario.batches else place.memory_bytes
                costs, own_timings, checks = zip(*cells, strict=True)
                update = {"capacity_bytes": capacity}
                tables[scenario.name] = tuple(each.model_copy(update=update) for each in costs)
                timings += own_timings
                own, depth = place.layers_with_weights, place.shape.layers
                shared = "" if own == depth else f", with the weights of {own} of {depth} layers"
                said = (f"measured on {place.machine}, {place.dtype}{shared}", *checks)
                provenance[scenario.name] = "; ".join(said)
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
        timings=tuple(timings),
    )


def _efforts(place: Place, scenarios: Sequence[Scenario], workload: Workload) -> tuple[int, int]:
    """Return the work of one round and of one check, in tokens times weights."""
    if not place.whole:
        return (work := timed_work(place.shape, workload)), work
    turns, prefill = CHECK_ROUNDS, needs_prefill(scenarios, workload)
    one = served_work(place.shape, workload, turns, prefill=prefill)
    return one, served_work(place.shape, workload, 2 * turns, prefill=prefill)
