"""Estimates of what tasks do: arithmetic, memory traffic and bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.files import matching
from puzzledsl.costs.flops import Workload, fixed_flop
from puzzledsl.ir import facts, nodes
from puzzledsl.pipeline.context import Context
from puzzledsl.plan.flop import JUDGING_TOKENS, HealingWork, body_flop


@dataclass(frozen=True, slots=True)
class Work:
    """Estimate of one task: arithmetic, memory traffic, bytes written, and bytes of temporary files.

    `flop` are those of matrix products. `moved_bytes`: weights that are read for one token at a time. `layer_calls`: forward
    passes of single layers, each with an overhead. `loads`: models that an engine loads in a process of its own.
    `runs` counts the runs of consecutive layers that a score measures.
    """

    flop: float = 0.0
    written_bytes: int = 0
    scratch_bytes: int = 0
    runs: int = 0
    moved_bytes: float = 0.0
    layer_calls: float = 0.0
    loads: int = 0

    def __add__(self, other: Work) -> Work:
        """Return the work of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Work(*(one + more for one, more in pairs))

    def __mul__(self, count: float) -> Work:
        """Return the work of `count` repetitions: `flop`, `moved_bytes` and `layer_calls` are multiplied, the others stay."""
        repeated = {name: getattr(self, name) * count for name in ("flop", "moved_bytes", "layer_calls")}
        return replace(self, **repeated)


TRAINING = 3  # cost of a forward and a backward pass, in forward passes
HEALED_SHARE = 0.75  # share of the layers that are healed (those from the first change on), assumed until the child is known
DECODED = 8  # decode steps of a timed window
BYTES_A_TOKEN = 5.0  # of text in JSON lines


def token_flop(shape: nodes.Shape, *, head: bool) -> float:
    """FLOP of one token's forward pass in a prefill of 1,024 tokens; `head`: with its logits."""
    return body_flop(shape, 1024) + (head_flop(shape) if head else 0.0)


def head_flop(shape: nodes.Shape) -> float:
    """FLOP of one token's logits."""
    return float(fixed_flop(shape, Workload(1, 1, 1)))


def timed_work(program: nodes.Program, shape: nodes.Shape, scenarios: Iterable[nodes.Scenario]) -> Work:
    """Return the work of one prefill and one window of decode steps, which read all weights each, summed over `scenarios`."""
    found = Work()
    for scenario in scenarios:
        batch = max(scenario.batches, default=1)
        flop = batch * token_flop(shape, head=False) * (scenario.prompt + DECODED)
        weight = 4 if getattr(program.hardware[scenario.hardware].spec, "dtype", "") == "fp32" else 2
        found += Work(flop, layer_calls=shape.layers) + decoding_work(shape, DECODED, weight)
    return found


def decoding_work(shape: nodes.Shape, steps: int, weight_bytes: int) -> Work:
    """Return the work of decode steps: weights read and layers called. Arithmetic is left out, because it takes less time."""
    read = steps * facts.total_params(shape) * weight_bytes
    return Work(moved_bytes=read, layer_calls=steps * shape.layers)


def healing_flop(shape: nodes.Shape, tokens: int, layers: float) -> float:
    """Return the FLOP of healing a child's top `layers`, with the parent's pass through the layers below; 0 without tokens."""
    if not tokens:
        return 0.0
    work = HealingWork(shape, tokens, min(tokens, JUDGING_TOKENS))
    whole = work.of_layers(((ParentAttention(), ParentFfn()),) * shape.layers)
    below, above = tokens * token_flop(shape, head=False), 2 * whole
    return below + layers / shape.layers * (above - below) + 2 * work.compared


def item_tokens(base: Path, tasks: Iterable[str], items: int | None) -> float:
    """Return the estimated tokens of `items` items (None: all) of each file that the globs `tasks` match, by bytes a line."""
    total = 0.0
    for path in (p for pattern in tasks for p in matching(base, pattern)):
        with path.open("rb") as file:
            lines = [len(line) for line in file]
        kept = len(lines) if items is None else min(items, len(lines))
        total += sum(lines) / max(len(lines), 1) * kept / BYTES_A_TOKEN
    return total


def child_bytes(ctx: Context, space: str) -> int:
    """Estimated bytes of a child's checkpoint: those of its parent, as the child's own size is known only after the search."""
    shape = ctx.program.parents[ctx.program.spaces[space].parent].shape
    return facts.total_params(shape) * weight_bytes(ctx, space)


def weight_bytes(ctx: Context, space: str) -> int:
    """Bytes of a stored weight: 4 if the parent's config.json names a 32-bit dtype, else 2."""
    source = ctx.program.parents[ctx.program.spaces[space].parent].source
    if isinstance(source, nodes.HfSource):
        try:
            config = json.loads((ctx.base / source.id / "config.json").read_text())
            return 4 if "32" in str(config.get("dtype") or config.get("torch_dtype")) else 2
        except (OSError, ValueError):
            pass
    return 2
