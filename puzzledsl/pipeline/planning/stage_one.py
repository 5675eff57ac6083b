"""Analytic estimate of stage one on a cluster: time and memory to train and score a block library on a hardware profile.

A worker (one GPU) holds consecutive layers and their pieces (`pieces.train.stream`). FLOP are counted as in `costs.flops`:

    parent, forward                  f(parent) per token, once per pass
    a piece in training              3 f(piece) - 2 W1: forward, gradients of weights and of inputs; no gradient for the inputs
                                     of W1, the matrices that read the block's own input
    calibration                      2 f(parent) + 2 (4 hidden^2 + intermediate^2): the Gram matrices; of a mixture those of
                                     the experts that a token uses
    refinement, before training      points x (f as in training) on the fitted tokens, plus f(piece) on all calibration tokens,
                                     in float32: at a sixteenth of bfloat16's rate
    optimiser                        28 bytes per weight and step, at the memory's bandwidth
    replace-1 scores                 f(parent) of the layers after each replacement, and the head

The time is that of the worker with the most layers: the workers' pipeline stages run concurrently on different
batches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.dtypes import DTYPE_BYTES, peak_flop_per_s
from puzzledsl.costs.flops import Workload, sub_block_flop
from puzzledsl.costs.parameters import fixed_size
from puzzledsl.ir.nodes import RooflineHardware, Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.pipeline import BYTES_A_WEIGHT, filled, training_bytes
from puzzledsl.plan.refinement import refinement_tokens

OPTIMISER_BYTES = (
    28  # a weight and step: read weight, gradient, two moments; write weight and moments; float32
)
BF16_BYTES = int(DTYPE_BYTES["bf16"])
SHARE = Fraction(6, 10)  # of a GPU's memory for weights and pieces, as `models.placement` shares it out
FLOAT32_SHARE = Fraction(1, 16)  # of bfloat16's rate
READ_FIRST = ("q_proj.", "k_proj.", "v_proj.", "gate_proj.", "up_proj.")


@dataclass(frozen=True, slots=True)
class StageOne:
    """Estimate of stage one. Bytes are those of the fullest worker and seconds those of the busiest, unless noted."""

    workers: int
    layers_a_worker: int
    jobs: int
    passes: int
    training_flop: int  # of all workers, parent included
    calibration_flop: int
    refinement_flop: int
    scoring_flop: int
    training_s: float
    optimiser_s: float
    calibration_s: float
    refinement_s: float
    scoring_s: float
    parent_bytes: int
    pieces_bytes: int
    room_bytes: int
    gram_bytes: int  # while the FFN of one layer is initialised
    hidden_bytes: int  # one token's hidden state, between two stages
    link_bytes_per_s: float  # of hidden states, between two stages
    library_bytes: int  # of all pieces
    saved_bytes: int  # of all workers, at one saving

    @property
    def hours(self) -> float:
        """Time of all phases in sequence, in hours."""
        pieces = self.calibration_s + self.refinement_s + self.training_s + self.optimiser_s
        return (pieces + self.scoring_s) / 3600


def stage_one(
    shape: Shape,
    jobs: Sequence[BldJob],
    profile: RooflineHardware,
    workers: int,
    *,
    scored: int,
    samples: int,
) -> StageOne | None:
    """Estimate stage one with `scored` replacements per layer on `samples` tokens; None if one piece exceeds a worker."""
    count = _Counts(shape, jobs)
    layers_a_worker = math.ceil(shape.layers / workers)
    rate = float(peak_flop_per_s(profile, "bf16") * profile.efficiency_compute)
    spans = _spans(shape.layers, layers_a_worker)
    own = max(sum(count.weights[i] for i in span) for span in spans) * BF16_BYTES
    room = max(0, int(SHARE * profile.memory_bytes) - own) // layers_a_worker
    parts = [filled(here, room) for here in count.by_layer.values()]
    if any(part is None for part in parts):
        return None
    passes = max(len(part or ()) for part in parts)
    tokens, steps = jobs[0].tokens, jobs[0].tokens // (jobs[0].context * jobs[0].batch)
    busiest = max(sum(count.trained[i] for i in span) for span in spans)
    forward = max(sum(count.parent[i] for i in span) for span in spans)
    training_s = tokens * (passes * forward + busiest) / rate
    weights = max(training_bytes(here) // BYTES_A_WEIGHT for here in count.by_layer.values())
    optimiser = steps * layers_a_worker * weights * OPTIMISER_BYTES
    bandwidth = float(profile.bandwidth_bytes_per_s * profile.efficiency_bandwidth)
    whole = sum(count.parent)
    calibration = jobs[0].calibration_tokens * passes * (2 * whole + sum(map(_grams, shape.each)))
    behind = scored * sum(run * flop for run, flop in enumerate(count.parent, start=1))  # each replacement
    head = 2 * fixed_size(shape).active * shape.layers * scored
    scoring = samples * (behind + head)
    in_part = max(training_bytes(part) for parts_of in parts for part in parts_of or ())
    hidden = shape.hidden * BF16_BYTES
    return StageOne(
        workers=math.ceil(shape.layers / layers_a_worker),
        layers_a_worker=layers_a_worker,
        jobs=len(jobs),
        passes=passes,
        training_flop=tokens * (passes * whole + sum(count.trained.values())),
        calibration_flop=calibration,
        refinement_flop=sum(count.refined.values()),
        scoring_flop=scoring,
        training_s=training_s,
        optimiser_s=optimiser / bandwidth,
        calibration_s=calibration / rate,  # stage after stage: the least that is sure
        refinement_s=max(sum(count.refined[i] for i in span) for span in spans)
        / (rate * float(FLOAT32_SHARE)),
        scoring_s=scoring / workers / rate,
        parent_bytes=own,
        pieces_bytes=layers_a_worker * in_part,
        room_bytes=int(SHARE * profile.memory_bytes),
        gram_bytes=4 * 8 * max(map(_widest, shape.each)) ** 2,  # float64: as counted, damped, factor, inverse
        hidden_bytes=hidden,
        link_bytes_per_s=passes * tokens * hidden / training_s,
        library_bytes=training_bytes(jobs) // BYTES_A_WEIGHT * BF16_BYTES,
        saved_bytes=12 * training_bytes(jobs) // BYTES_A_WEIGHT // passes,
    )


def _spans(layers: int, each: int) -> list[range]:
    return [range(first, min(first + each, layers)) for first in range(0, layers, each)]


def _widest(own: Shape) -> int:
    """Return the channels of the widest FFN or expert that is initialised at a time."""
    return max(own.expert_width, own.shared_width) if own.ffn == "moe" else own.ffn_width


def _grams(own: Shape) -> int:
    """Return the FLOP of one token's contribution to the Gram matrices of a layer."""
    of_experts = own.top_k * own.expert_width**2 + own.shared_width**2
    return 2 * (4 * own.hidden**2 + (of_experts if own.ffn == "moe" else own.ffn_width**2))


class _Counts:
    """FLOP per token, by layer."""

    def __init__(self, shape: Shape, jobs: Sequence[BldJob]) -> None:
        self._work = Workload(batch=1, prompt=jobs[0].context, output=1)
        self._shape = shape
        parts = ParentAttention(), ParentFfn()
        self.weights, self.parent = [0] * shape.layers, [0] * shape.layers
        for own, layers in shape.kinds():
            weights = sum(alternative.params(own) for alternative in parts)
            flop = sum(self._forward(alternative, own) for alternative in parts)
            for layer in layers:
                self.weights[layer], self.parent[layer] = weights, flop
        self.by_layer: defaultdict[int, list[BldJob]] = defaultdict(list)
        self.trained: defaultdict[int, int] = defaultdict(int)  # FLOP a token
        self.refined: defaultdict[int, int] = defaultdict(int)  # FLOP
        for job in jobs:
            self.by_layer[job.layer].append(job)
            self.trained[job.layer] += (training := self._training(job))
            self.refined[job.layer] += self._refinement(job, training)

    def _forward(self, alternative: Alternative, own: Shape) -> int:
        prefill, _ = sub_block_flop(own, alternative, self._work)
        return prefill // self._work.prompt

    def _training(self, job: BldJob) -> int:
        alternatives = [a for a in (job.attention, job.ffn) if a is not None]
        if any(a.is_solved(job.init) for a in alternatives):
            return 0  # optimal as it starts
        first = sum(math.prod(size) for name, size in job.shapes.items() if name.startswith(READ_FIRST))
        own = self._shape.at(job.layer)
        return sum(3 * self._forward(a, own) for a in alternatives) - 2 * first

    def _refinement(self, job: BldJob, training: int) -> int:
        """Return the FLOP of refining one piece, for all its tokens."""
        both, forward = refinement_tokens(job, self._shape.hidden)
        own = self._shape.at(job.layer)
        parts = (a for a in (job.attention, job.ffn) if a is not None)
        return both * training + forward * sum(self._forward(a, own) for a in parts)
