"""FLOP and bytes of a task's parts, counted as in the cost model (`costs.flops`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.files import matching
from puzzledsl.costs.flops import Workload, fixed_flop, sub_block_flop
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.tables import BldJob
from puzzledsl.pipeline.context import Context

TRAINING = 3  # a forward and a backward pass, in forwards
HEALING = 4.0  # parent, child and Gram matrices, in forwards
DECODE_COST = 2.0  # a decoded token's time over a prefilled one's arithmetic: it waits for memory
DECODED = 8  # steps of a timed window
BYTES_A_TOKEN = 5.0  # of text in JSON lines


def shape_of(program: nodes.Program, space: str) -> nodes.Shape:
    """Return the shape of a space's parent."""
    return program.parents[program.spaces[space].parent].shape


def token_flop(shape: nodes.Shape, *, head: bool) -> float:
    """FLOP of one token's forward in a long prefill."""
    work = Workload(1, 1024, 1)
    layers = sum(
        len(layers) * sub_block_flop(own, a, work)[0]
        for own, layers in shape.kinds()
        for a in (ParentAttention(), ParentFfn())
    )
    return layers / work.prompt + (head_flop(shape) if head else 0.0)


def head_flop(shape: nodes.Shape) -> float:
    """FLOP of one token's logits."""
    return float(fixed_flop(shape, Workload(1, 1, 1)))


def timed_flop(shape: nodes.Shape, scenario: nodes.Scenario) -> float:
    """FLOP of a prefill and a window of decode steps, the latter at what they really cost."""
    batch = max(scenario.batches, default=1)
    return batch * token_flop(shape, head=False) * (scenario.prompt + DECODE_COST * DECODED)


def piece_params(job: BldJob, shape: nodes.Shape) -> int:
    """Return the parameters of a job's piece."""
    alternatives: list[Alternative] = [a for a in (job.attention, job.ffn) if a is not None]
    return sum(a.params(shape.at(job.layer)) for a in alternatives)


def child_bytes(ctx: Context, space: str) -> int:
    """Bytes of a child, taken as large as its parent: the search finds out how much smaller it is."""
    return facts.total_params(shape_of(ctx.program, space)) * weight_bytes(ctx, space)


def weight_bytes(ctx: Context, space: str) -> int:
    """Bytes of a stored weight, as the parent's config.json says; 2 where there is none."""
    source = ctx.program.parents[ctx.program.spaces[space].parent].source
    if isinstance(source, nodes.HfSource):
        try:
            config = json.loads((ctx.base / source.id / "config.json").read_text())
            return 4 if "32" in str(config.get("dtype") or config.get("torch_dtype")) else 2
        except (OSError, ValueError):
            pass
    return 2


def file_bytes(base: Path, patterns: Iterable[str]) -> int:
    """Return the size of all files that match."""
    return sum(path.stat().st_size for pattern in patterns for path in matching(base, pattern))
