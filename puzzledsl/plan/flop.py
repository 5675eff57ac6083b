"""FLOP of stage one by layer: the parent's forward pass, pieces in training and in refinement, Gram matrices, least squares.

FLOP are counted as in `costs.flops`:

    parent, forward             f(parent) per token
    a piece in training         3 f(piece) - 2 W1: forward, gradients of weights and of inputs; no gradient for the inputs of W1,
                                the matrices that read the block's own input
    Gram matrices               2 (4 hidden^2 + intermediate^2) per token; of a mixture those of the experts that a token uses
    least squares               n^3 / 3 + 2 n^2 hidden of a map with n inputs
    refinement                  points x (f as in training) on the fitted tokens, and f(piece) on all calibration tokens
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.costs.flops import Workload, sub_block_flop
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan.refinement import is_frozen, refinement_tokens

READ_FIRST = ("q_proj.", "k_proj.", "v_proj.", "gate_proj.", "up_proj.")


class StageOneFlop:
    """FLOP of a BLD's pieces and of their parent, by layer: `parent` and `trained` a token, the others in all."""

    def __init__(self, shape: Shape, jobs: Sequence[BldJob]) -> None:
        self._work = Workload(batch=1, prompt=jobs[0].context, output=1)
        self._shape = shape
        parts = ParentAttention(), ParentFfn()
        self.parent, self.grams = [0] * shape.layers, [0] * shape.layers
        for own, layers in shape.kinds():
            flop, grams = sum(self.forward(alternative, own) for alternative in parts), grams_flop(own)
            for layer in layers:
                self.parent[layer], self.grams[layer] = flop, grams
        self.trained: defaultdict[int, int] = defaultdict(int)
        self.refined: defaultdict[int, int] = defaultdict(int)
        self.solved: defaultdict[int, float] = defaultdict(float)
        for job in jobs:
            training = self.training(job)
            self.trained[job.layer] += training
            self.refined[job.layer] += self._refinement(job, training)
            self.solved[job.layer] += self._least_squares(job)

    def forward(self, alternative: Alternative, own: Shape) -> int:
        """Return the FLOP of a sub-block's forward pass, a token."""
        prefill, _ = sub_block_flop(own, alternative, self._work)
        return prefill // self._work.prompt

    def training(self, job: BldJob) -> int:
        """Return the FLOP of a piece in training, a token."""
        alternatives = [a for a in (job.attention, job.ffn) if a is not None]
        if any(a.is_solved(job.init) for a in alternatives) or all(is_frozen(a) for a in alternatives):
            return 0  # optimal as it starts, or frozen
        first = sum(math.prod(size) for name, size in job.shapes.items() if name.startswith(READ_FIRST))
        own = self._shape.at(job.layer)
        return sum(3 * self.forward(a, own) for a in alternatives) - 2 * first

    def _refinement(self, job: BldJob, training: int) -> int:
        both, forward = refinement_tokens(job, self._shape.hidden)
        own = self._shape.at(job.layer)
        parts = (a for a in (job.attention, job.ffn) if a is not None)
        return both * training + forward * sum(self.forward(a, own) for a in parts)

    def _least_squares(self, job: BldJob) -> float:
        own, found = self._shape.at(job.layer), 0.0
        for alternative in (job.attention, job.ffn):
            if alternative is not None and alternative.trainable:
                heads = alternative.query_heads(own) * own.head_dim
                inputs = heads or min(alternative.channels(own), widest(own)) or own.hidden
                found += inputs**3 / 3 + 2 * inputs**2 * own.hidden
        return found


def grams_flop(own: Shape) -> int:
    """Return the FLOP of one token's contribution to the Gram matrices of a layer."""
    of_experts = own.top_k * own.expert_width**2 + own.shared_width**2
    return 2 * (4 * own.hidden**2 + (of_experts if own.ffn == "moe" else own.ffn_width**2))


def widest(own: Shape) -> int:
    """Return the channels of the widest FFN or expert that is initialised at a time."""
    return max(own.expert_width, own.shared_width) if own.ffn == "moe" else own.ffn_width
