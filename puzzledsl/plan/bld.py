"""BLD jobs of a space: one job for each piece of the block library.

In a layer with A attention and F FFN alternatives, a and f of them have weights (are neither `parent` nor `noop`).
The number of jobs is

    decoupled   a + f                              one job for each sub-block alternative
    coupled     A * F - (A - a) * (F - f)          one job for each pair with something to train

Alternatives that differ in the type of their KV cache alone share a piece. Besides them there is one job for each storage type
of the head, where rounding is compensated (`head_jobs`).

A space of 6 x 9 with the parent and a no-op on both sides therefore has 4 + 7 = 11 or 54 - 2 * 2 = 50 jobs per layer.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Literal

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.weights import Shapes
from puzzledsl.ir.nodes import Bld, Initialisers, LayerChoice, Parent, Program, Shape
from puzzledsl.ir.tables import BldJob

TRAINING = {"loss", "tokens", "context", "batch", "lr", "calibration_tokens", "seed"}
"""Fields of a BLD declaration that every job has, too."""
ID_LENGTH = 24  # hexadecimal digits: 96 bits of SHA-256
Kind = Literal["attention", "ffn", "block"]
Draft = tuple[Kind, AttentionAlternative | None, FfnAlternative | None]


def bld_plan(program: Program, bld: str) -> tuple[BldJob, ...]:
    """Return the jobs of a BLD declaration: by layer, then in the order in which the space lists its alternatives.

    Alternatives that are listed twice yield one job.
    """
    declaration = program.blds[bld]
    space = program.spaces[declaration.space]
    parent = program.parents[space.parent]
    common = _common(program, declaration, parent)
    memo: dict[tuple[Draft, int], tuple[str, Shapes, dict[str, object]]] = {}
    jobs: list[BldJob] = []
    for layer, choice in enumerate(space.layers):
        for draft in dict.fromkeys(_drafts(choice, declaration)):
            own = parent.shape.at(layer)
            if (draft, id(own)) not in memo:
                memo[draft, id(own)] = _described(draft, own, space.init)
            init, shapes, identity = memo[draft, id(own)]
            kind, attention, ffn = draft
            name, settings = _id({**common, **identity, "layer": layer}), _settings(declaration)
            made: dict[str, Any] = {"attention": attention, "ffn": ffn, "shapes": shapes, "init": init}
            jobs.append(BldJob(id=name, layer=layer, sub_block=kind, **made, **settings))
    return tuple(jobs)


def head_jobs(program: Program, bld: str) -> tuple[BldJob, ...]:
    """Return a job for each type that GPTQ rounds the parent's head to; empty if the space rounds otherwise or keeps its ends."""
    declaration = program.blds[bld]
    space = program.spaces[declaration.space]
    parent = program.parents[space.parent]
    if space.ends is None or space.init.quantise != "gptq":
        return ()
    shape, common = parent.shape, _common(program, declaration, parent)
    return tuple(
        BldJob(
            id=_id({**common, "sub_block": "head", "head": dtype}),
            layer=shape.layers,
            sub_block="block",
            shapes={"weight": (shape.vocab, shape.hidden)},
            init=space.init.quantise,
            head=dtype,
            **_settings(declaration),
        )
        for dtype in dict.fromkeys(head.dtype for head in space.ends.head)
        if dtype is not None
    )


def _common(program: Program, bld: Bld, parent: Parent) -> dict[str, object]:
    """Return what the ids of all jobs of a BLD have in common: the parent, the text and the training."""
    data = program.data[bld.data].source.model_dump(mode="json") if bld.data else None
    source, shape = parent.source.model_dump(mode="json"), parent.shape.model_dump(mode="json")
    training = bld.model_dump(mode="json", include=TRAINING)
    return {"parent": source, "shape": shape, "data": data, **training}


def _settings(bld: Bld) -> dict[str, Any]:
    return {"bld": bld.name, **{name: getattr(bld, name) for name in TRAINING}}


def _drafts(choice: LayerChoice, bld: Bld) -> Iterator[Draft]:
    """Yield the pieces to train in one layer, as (kind, attention, ffn)."""
    attentions = dict.fromkeys(a.of_piece for a in choice.attention)
    if bld.mode == "coupled":
        for a in attentions:
            for f in choice.ffn:
                if a.trainable or f.trainable:
                    yield "block", a, f
        return
    if "attention" in bld.sub_blocks:
        yield from (("attention", a, None) for a in attentions if a.trainable)
    if "ffn" in bld.sub_blocks:
        yield from (("ffn", None, f) for f in choice.ffn if f.trainable)


def _described(draft: Draft, shape: Shape, init: Initialisers) -> tuple[str, Shapes, dict[str, object]]:
    """Return a piece's initialisers, its stored weights' shapes, and the content that determines its id."""
    kind, attention, ffn = draft
    parts: list[tuple[str, Alternative]] = [
        (prefix, alternative)
        for prefix, alternative in (("self_attn.", attention), ("mlp.", ffn))
        if alternative is not None
    ]
    shapes = {
        (prefix if kind == "block" else "") + name: size
        for prefix, alternative in parts
        for name, size in alternative.stored(shape).items()
    }
    made = [alternative for _, alternative in parts if alternative.trainable]
    # pieces that are the parent's own weights, rounded, have the method of rounding as their initialiser
    names = [each.initialiser(init) if each.own_weights else init.quantise for each in made]
    identity: dict[str, object] = {
        "sub_block": kind,
        "attention": attention.model_dump(mode="json") if attention else None,
        "ffn": ffn.model_dump(mode="json") if ffn else None,
        "init": names,
    }
    if any(alternative.dtype is not None for _, alternative in parts):
        identity["quantise"] = init.quantise
    return "+".join(names), shapes, identity


def _id(content: dict[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


Spans = tuple[tuple[int, int], ...]


def spans(work: Sequence[float], workers: int) -> Spans:
    """Return (first, end) of the layers of at most `workers` workers, none empty, whose largest sum of `work` is the least."""
    below = [0.0, *accumulate(work)]
    # of the layers below each one, in so many spans: the largest sum, and the spans
    best: dict[int, tuple[float, Spans]] = {end: (below[end], ((0, end),)) for end in range(1, len(work) + 1)}
    for _ in range(min(workers, len(work)) - 1):
        lower, best = best, {}
        for end in range(min(lower) + 1, len(work) + 1):
            limits = ((max(lower[at][0], below[end] - below[at]), at) for at in lower if at < end)
            limit, at = min(limits)
            best[end] = limit, (*lower[at][1], (at, end))
    return best[len(work)][1]


def work_of(jobs: Sequence[BldJob], shape: Shape) -> list[float]:
    """Estimate the FLOPs per token of each layer up to the last with a job: 2 a weight of the parent's, 6 one of its pieces."""
    work = []
    for own in shape.each[: 1 + max(job.layer for job in jobs)]:
        weights = [*ParentAttention().weights(own).values(), *ParentFfn().weights(own).values()]
        work.append(2.0 * sum(math.prod(weight.shape) for weight in weights))
    for job in jobs:
        work[job.layer] += 6.0 * sum(map(math.prod, job.shapes.values()))
    return work
