"""Error of the sum of measured blocks against whole children on this machine: `python -m benchmarks.measure`.

The parent is SmolLM2-135M (made by examples/smollm2/prepare.py), or a random Llama of any size (`--random`). Every
alternative is timed as `pzl measure` does it; then random whole children of the space are run in turn with the parent,
and each one's prefill and decode time is compared with the sum of its blocks'. Exits with 1 where the mean error of
either is above 5 %. Wants an idle machine; on a busy one the spread of the times says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir.nodes import LayerChoice, Space, Where
from puzzledsl.measure.estimate import estimate
from puzzledsl.measure.host import Host, alternatives_of
from puzzledsl.measure.rounds import (
    Check,
    Timer,
    mean_size,
    measure_check,
    rounds_needed,
    speed_up_errors,
)
from puzzledsl.measure.stopwatch import machine
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent

LIMIT = 0.05
CHILDREN, TURNS = 8, 8
WORKLOADS = {"chat": Workload(1, 64, 128), "digest": Workload(1, 512, 8), "batch": Workload(4, 128, 64)}
PARENT = Path(__file__).parents[1] / "examples" / "smollm2" / "parent"
NOWHERE = Where(file="benchmark", line=1, column=1, end_line=1, end_column=1)


@dataclass(frozen=True)
class Outcome:
    """One workload: signed errors of each child's relative prefill and decode time; how steady the parent's steps were, and
    how far two turns of the parent are apart."""

    name: str
    workload: Workload
    prefill: tuple[float, ...]
    decode: tuple[float, ...]
    checks: tuple[Check, ...]
    spread: float
    noise: tuple[float, float]

    @property
    def worst(self) -> float:
        """The larger of the two mean absolute errors."""
        return max(mean_size(list(self.prefill)), mean_size(list(self.decode)))


def random_llama(layers: int, hidden: int) -> PreTrainedModel:
    """A Llama with random weights: head_dim 64, one KV head for three query heads or so, FFN 8/3 of the hidden size."""
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 256),
        head_dim=64,
        intermediate_size=hidden * 8 // 3,
        vocab_size=32000,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)


def space_of(model: PreTrainedModel) -> Space:
    """Everything a sub-block may become: fewer KV heads, three widths, linear, nothing."""
    shape = shape_of(model.config)
    widths = (round(shape.intermediate * share / 64) * 64 for share in (0.75, 0.5, 0.25))
    choice = LayerChoice(
        attention=(ParentAttention(), GqaAttention(kv_heads=1), LinearAttention(), NoOpAttention()),
        ffn=(ParentFfn(), *(MlpFfn(width=width) for width in widths), LinearFfn(), NoOpFfn()),
    )
    return Space(name="w", parent="p", layers=(choice,) * shape.layers, where=NOWHERE)


def measure(host: Host, space: Space, name: str, children: int, turns: int) -> Outcome:
    """Blocks, then children, of one workload; last the parent against itself, which says what the machine's noise is worth."""
    workload = WORKLOADS[name]
    timer = Timer(host, space, workload)
    rounds = [timer.round(seed) for seed in range(rounds_needed(host.kinds, host.alternatives))]
    checks = [timer.check(seed, turns) for seed in range(children)]
    itself = measure_check(host, host.parent(), workload, -1, turns)
    prefill, decode = estimate(rounds, lambda r: r.prefill), estimate(rounds, lambda r: r.decode)
    errors = list(speed_up_errors(checks, prefill, decode, workload.output))
    steps = [seconds for r in rounds for seconds in r.decode.parent]
    return Outcome(
        name=name,
        workload=workload,
        prefill=tuple(e[0] for e in errors),
        decode=tuple(e[1] for e in errors),
        checks=tuple(checks),
        spread=statistics.stdev(steps) / statistics.fmean(steps),
        noise=(
            itself.child_prefill_s / itself.parent_prefill_s - 1,
            itself.child_decode_s / itself.parent_decode_s - 1,
        ),
    )


def lines(outcome: Outcome) -> Iterator[str]:
    """For people."""
    w = outcome.workload
    yield f"{outcome.name}: batch {w.batch}, {w.prompt} -> {w.output}; the parent's decode steps vary by {outcome.spread:.0%}"
    for check, prefill, decode in zip(outcome.checks, outcome.prefill, outcome.decode, strict=True):
        speed = check.latency_speed_up(w.output)
        yield f"  child {check.seed}  {speed:5.2f}x   prefill {prefill:+6.1%}   decode {decode:+6.1%}"
    prefill, decode = mean_size(list(outcome.prefill)), mean_size(list(outcome.decode))
    yield f"  parent against itself: prefill {outcome.noise[0]:+.1%}, decode {outcome.noise[1]:+.1%}"
    yield f"  mean error: prefill {prefill:.1%}, decode {decode:.1%}"


def main() -> int:
    """Print a table a workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--parent", type=Path, default=PARENT, help=f"a checkpoint (default: {PARENT.name}/ of the example)"
    )
    parser.add_argument(
        "--random", metavar="LxH", help="a random Llama instead: layers x hidden size, such as 24x768"
    )
    parser.add_argument("--children", type=int, default=CHILDREN)
    parser.add_argument(
        "--turns", type=int, default=TURNS, help="times that each child is run (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--workload", action="append", choices=WORKLOADS, help="may be repeated; default: all"
    )
    parser.add_argument("--json", type=Path, help="write everything there too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.random:
        layers, hidden = map(int, options.random.split("x"))
        model = random_llama(layers, hidden)
    else:
        model = load_parent(options.parent, dtype=torch.float32, device=torch.device("cpu"))
    space = space_of(model)
    host = Host(model, alternatives_of(space, shape_of(model.config)))
    print(f"{machine(model.device)}; {model.num_parameters():,} parameters")
    outcomes = []
    for name in options.workload or WORKLOADS:
        outcomes.append(measure(host, space, name, options.children, options.turns))
        print("\n".join(lines(outcomes[-1])), flush=True)
    if options.json:
        told = [
            {"workload": o.name, "prefill": o.prefill, "decode": o.decode, "spread": o.spread}
            for o in outcomes
        ]
        options.json.write_text(json.dumps(told, indent=1))
    return int(any(outcome.worst > LIMIT for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
