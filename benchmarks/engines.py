"""Error of summed costs against whole children in the engine that serves: `python -m benchmarks.engines`.

The parent is SmolLM2-135M (made by examples/smollm2/prepare.py). As `pzl measure` does it, whole models of random mixtures are
written for the engine and timed in turn with the parent, and the times of the alternatives are fitted. Then random whole
children, which the fit has not seen, are timed in turn with the parent, and compared with the sums of their pieces. Last comes a
child that the costs choose, 1.3x faster with few parameters lost, so that the errors of the fit are in its favour; or that of a
search (`--child build/refined/SEARCH.json`). A baseline beside it: times in proportion to parameters.
Exits with 1 where the mean error of prefill or decode, or of that child's speed-up, is above 5 %. Wants an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.noop import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.measure.cells import expected_times
from puzzledsl.measure.estimate import FIXED, Estimate, Key
from puzzledsl.measure.host import PARENT, SUB_BLOCKS, Arrangement
from puzzledsl.measure.rounds import Check, mean_size, speed_up_errors
from puzzledsl.measure.stopwatch import deviation
from puzzledsl.measure.whole import Workload
from puzzledsl.measure.whole_fit import fit_whole
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_config
from puzzledsl.serving.clock import ServingClock, ServingClockMaker

LIMIT = 0.05
CHILDREN, TURNS = 8, 4
SPEED_UP = 1.3
WORKLOADS = {"chat": Workload(1, 64, 128), "batch": Workload(4, 64, 64), "digest": Workload(1, 256, 8)}
SMOLLM2 = Path(__file__).parents[1] / "examples" / "smollm2" / "parent"
NOWHERE = nodes.Where(file="benchmark", line=1, column=1, end_line=1, end_column=1)


@dataclass(frozen=True)
class Outcome:
    """Signed errors of each child in prefill, a decode step and latency; the same of the baseline; the demo's child's."""

    name: str
    machine: str
    errors: tuple[tuple[float, float, float], ...]
    baseline: tuple[tuple[float, float, float], ...]
    rounds: tuple[Check, ...]
    checks: tuple[Check, ...]
    spread: float
    child: tuple[float, float]
    """Predicted and measured latency speed-up."""
    seconds: float

    @property
    def worst(self) -> float:
        """The largest of the mean errors of prefill and decode, and of the child's."""
        means = [mean_size([e[phase] for e in self.errors]) for phase in (0, 1)]
        return max(*means, abs(self.child[0] / self.child[1] - 1))


def clock_of(parent_dir: Path, engine: str, dtype: str, threads: int) -> ServingClock:
    """A clock for everything that llama.cpp lets a sub-block become."""
    shape = shape_of(load_config(parent_dir))
    widths = (round(shape.intermediate * share / 64) * 64 for share in (0.75, 0.5, 0.25))
    choice = nodes.LayerChoice(
        attention=(ParentAttention(), GqaAttention(kv_heads=1), LinearAttention(), NoOpAttention()),
        ffn=(ParentFfn(), *(MlpFfn(width=width) for width in widths), LinearFfn(), NoOpFfn()),
    )
    spec = nodes.MeasuredHardware(engine=engine, dtype=dtype, threads=threads)
    program = nodes.Program(
        source="benchmark.pzl",
        parents={
            "p": nodes.Parent(name="p", source=nodes.HfSource(id=str(parent_dir)), shape=shape, where=NOWHERE)
        },
        spaces={"w": nodes.Space(name="w", parent="p", layers=(choice,) * shape.layers, where=NOWHERE)},
        hardware={"h": nodes.Hardware(name="h", spec=spec, where=NOWHERE)},
    )
    return ServingClockMaker(program, "w", parent_dir, "h")(0)


def measure(
    clock: ServingClock,
    name: str,
    workload: Workload,
    children: range,
    turns: int,
    child: Arrangement | None,
) -> Outcome:
    """Mixtures and children of one workload, alternately, so that both meet the same machine. `children`: their seeds."""
    began, place = time.monotonic(), clock.place()
    rounds: list[Check] = []
    checks: list[Check] = []
    for step in range(max(place.rounds, len(children))):
        if step < place.rounds:
            rounds.append(clock.round(workload, step))
        if step < len(children):
            checks.append(clock.check(workload, children[step]))
        print(f"  {name}: {step + 1}/{place.rounds}", file=sys.stderr, flush=True)
    space = clock._space
    priors = expected_times(place.shape, space, workload, place.stored)
    parent: list[Key] = [(part, PARENT) for part in SUB_BLOCKS for _ in space.layers]
    prefill, decode = (
        fit_whole(rounds, phase, prior, parent)
        for phase, prior in zip(("prefill", "decode"), priors, strict=True)
    )
    by_size = _by_parameters(clock)
    plain = [_proportional(by_size, estimate.parent_s, parent) for estimate in (prefill, decode)]
    child = child or chosen(by_size, prefill, decode, workload.output, len(space.layers))
    check = clock.timed(child, workload, -1, 2 * turns)
    ((_, _, off),) = speed_up_errors([check], prefill, decode, workload.output)
    measured = check.latency_speed_up(workload.output)
    return Outcome(
        name=name,
        machine=place.machine,
        errors=tuple(speed_up_errors(checks, prefill, decode, workload.output)),
        baseline=tuple(speed_up_errors(checks, plain[0], plain[1], workload.output)),
        rounds=tuple(rounds),
        checks=tuple(checks),
        spread=deviation([check.parent_decode_s for check in (*rounds, *checks)]),
        child=(measured * (1 + off), measured),
        seconds=time.monotonic() - began,
    )


def chosen(
    sizes: Mapping[Key, float], prefill: Estimate, decode: Estimate, output: int, layers: int
) -> Arrangement:
    """The greedy child that is 1.3x faster: the replacements that save most time for the parameters that they take."""
    latency = {key: seconds + output * decode.seconds[key] for key, seconds in prefill.seconds.items()}
    found = {part: [PARENT] * layers for part in SUB_BLOCKS}
    parent = latency[FIXED] + layers * sum(latency[part, PARENT] for part in SUB_BLOCKS)
    changes: list[tuple[float, SubBlock, str]] = []
    for part in SUB_BLOCKS:
        for of, name in latency:
            if of == part and name not in (PARENT, "noop"):
                fewer = max(1.0, sizes[part, PARENT] - sizes[part, name])
                changes.append(((latency[part, PARENT] - latency[part, name]) / fewer, part, name))
    changes.sort(reverse=True)
    saved = 0.0
    for layer in range(layers):
        for _, part, name in changes[:2]:
            if parent / (parent - saved) < SPEED_UP and found[part][layer] == PARENT:
                found[part][layer] = name
                saved += latency[part, PARENT] - latency[part, name]
    return {part: tuple(names) for part, names in found.items()}


def _by_parameters(clock: ServingClock) -> dict[Key, float]:
    shape = clock._shape
    found: dict[Key, float] = {
        (part, name): float(alternative.params(shape))
        for part, alternatives in clock._alternatives.items()
        for name, alternative in alternatives.items()
    }
    layers = shape.layers * sum(found[part, PARENT] for part in SUB_BLOCKS)
    return found | {FIXED: total_params(shape) - layers}


def _proportional(sizes: Mapping[Key, float], parent_s: float, parent: list[Key]) -> Estimate:
    """The dumbest estimate: every parameter takes the same time."""
    factor = parent_s / (sizes[FIXED] + sum(sizes[key] for key in parent))
    return Estimate({key: factor * size for key, size in sizes.items()}, {}, parent_s, 1.0)


def arrangement_of(answer: Path) -> Arrangement:
    """The child of a build directory's `solutions/SEARCH.json`, or of its `refined/SEARCH.json`."""
    found = json.loads(answer.read_bytes())
    layers = (found["solution"] if "solution" in found else found["solutions"][0])["layers"]
    return {sub_block: tuple(layer[sub_block] for layer in layers) for sub_block in SUB_BLOCKS}


def lines(outcome: Outcome, workload: Workload) -> Iterator[str]:
    """For people."""
    yield f"{outcome.name}: batch {workload.batch}, {workload.prompt} -> {workload.output}; {outcome.machine}"
    for check, (prefill, decode, latency) in zip(outcome.checks, outcome.errors, strict=True):
        speed = check.latency_speed_up(workload.output)
        yield (
            f"  child {check.seed}  {speed:5.2f}x   prefill {prefill:+6.1%}   decode {decode:+6.1%}   "
            f"latency {latency:+6.1%}"
        )
    for what, errors in (("sum of pieces", outcome.errors), ("by parameters", outcome.baseline)):
        means = [mean_size([e[phase] for e in errors]) for phase in range(3)]
        yield f"  mean error, {what}: prefill {means[0]:.1%}, decode {means[1]:.1%}, latency {means[2]:.1%}"
    predicted, measured = outcome.child
    yield f"  the chosen child: predicted {predicted:.3f}x, measured {measured:.3f}x ({predicted / measured - 1:+.1%})"
    yield f"  the parent's steps vary by {outcome.spread:.1%}; {outcome.seconds:.0f} s"


def main() -> int:
    """Print a table an engine, dtype and workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parent", type=Path, default=SMOLLM2)
    parser.add_argument("--engine", default="llama_cpp")
    parser.add_argument("--dtype", action="append", help="may be repeated; default: q8_0 and f32")
    parser.add_argument(
        "--workload", action="append", choices=WORKLOADS, help="may be repeated; default: chat"
    )
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument("--seed", type=int, default=0, help="of the first child")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=Path, help="an answer: solutions/SEARCH.json or refined/SEARCH.json")
    parser.add_argument("--json", type=Path, help="write everything there too")
    options = parser.parse_args()
    child = arrangement_of(options.child) if options.child else None
    outcomes: list[Outcome] = []
    for dtype in options.dtype or ["q8_0", "f32"]:
        clock = clock_of(options.parent.resolve(), options.engine, dtype, options.threads)
        for name in options.workload or ["chat"]:
            title = f"{options.engine} {dtype} {name}"
            children = range(options.seed, options.seed + options.children)
            found = measure(clock, title, WORKLOADS[name], children, options.turns, child)
            outcomes.append(found)
            print("\n".join(lines(found, WORKLOADS[name])), flush=True)
        clock.close()
    if options.json:
        told = [
            {"name": o.name, "errors": o.errors, "child": o.child, "spread": o.spread}
            | {"rounds": [r.model_dump() for r in o.rounds], "checks": [c.model_dump() for c in o.checks]}
            for o in outcomes
        ]
        options.json.write_text(json.dumps(told, indent=1))
    print(
        f"worst mean error {max(o.worst for o in outcomes):.1%}; median {statistics.median(o.worst for o in outcomes):.1%}"
    )
    return int(any(outcome.worst > LIMIT for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
