"""FLOP of making pieces, by layer, and the pieces that are refined before training.

FLOP are counted as in `costs.flops`:

    parent, forward             f(parent) per token
    a piece in training         3 f(piece) - 2 W1: forward, gradients of weights and of inputs; no gradient for the inputs of W1,
                                the matrices that read the block's own input
    Gram matrices               2 (4 hidden^2 + intermediate^2) per calibration token
    refinement                  points x (f as in training) on the fitted tokens, and f(piece) on all calibration tokens

In float64, in all:

    least squares               2 n^3 / 3 + 4 n^2 hidden of a map with n inputs
    rounding with compensation  2 (4/3 n^3 + n m (n + 256)) of a map with n inputs and m outputs, and 5e6 a column, which is
                                what a step of the loop over columns takes beside its products

Factorisations reach half the speed of products, so they count twice.

Least-squares initialisation fits only a piece's last map. Refinement (`pieces.initialise.gauss_newton`) then fits all its maps
on half of the calibration tokens, and finally the last map on all of them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import is_quantised
from puzzledsl.costs.flops import Workload, sub_block_flop
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob

FITTED_SHARE = Fraction(1, 2)
"""Share of the calibration tokens that all maps are fitted to. The last calibration batch is held out to compare points."""
NUMBERS_A_WEIGHT = 4
"""Least ratio of fitted numbers to weights. Below it, the FFNs of SmolLM2 improve by 1 % or not at all."""
POINTS = 4
"""Number of points evaluated after the start. Two more would improve the fit by 1 % to 2 %."""
CURVED_SHARE = Fraction(3, 4)
"""Share of the fitted batches from which the curvature is estimated."""


def is_refined(job: BldJob) -> bool:
    """Return True for a piece initialised by least squares that more maps than its last can improve."""
    made = [a for a in (job.attention, job.ffn) if a is not None and a.trainable]
    pairs = zip(made, job.init.split("+"), strict=True)
    return any(a.refined and init == "least_squares" for a, init in pairs)


def is_frozen(alternative: Alternative) -> bool:
    """Return True if training does not change an alternative's weights: they are the parent's, or quantised, or none."""
    return alternative.dtype is not None or not alternative.trainable


def has_numbers_enough(weights: int, numbers: int) -> bool:
    """Return True if `numbers` fitted values (output channels x tokens) suffice to fit `weights` weights."""
    return NUMBERS_A_WEIGHT * weights <= numbers


def refinement_tokens(job: BldJob, hidden: int) -> tuple[int, int]:
    """Return the tokens of refinement: those with forward and backward pass, and forward only; (0, 0) if not refined."""
    fitted = int(FITTED_SHARE * job.calibration_tokens)
    weights = sum(math.prod(size) for size in job.shapes.values())
    if not is_refined(job) or not has_numbers_enough(weights, fitted * hidden):
        return 0, 0
    return int(fitted * (1 + POINTS + CURVED_SHARE)), job.calibration_tokens


CALIBRATION_BATCH_TOKENS, CALIBRATION_BATCHES = 2048, 8
"""Most tokens of a calibration batch, and least number of batches."""
HELD_OUT_TOKENS = 4096
"""Most held-out tokens of a BLD. Of fewer than eight times as many training tokens, an eighth is held out, at least one block."""
LAZY, COLUMN_FLOP = 128, 5e6
"""Columns whose errors are collected (`models.precision.gptq`), and what a column of the loop takes besides."""
READ_FIRST = ("q_proj.", "k_proj.", "v_proj.", "gate_proj.", "up_proj.")
FLOAT64, EVALUATIONS = 4, 2
"""Float32 products in the time of one in float64 while GPTQ rounds (a layer of SmolLM2-135M, one core with AVX-512), and passes
over the held-out tokens: before training, and after it."""


def work_by_layer(shape: Shape, jobs: Sequence[BldJob]) -> list[float]:
    """Return the FLOP of each layer up to the last with pieces: of the parent's layer, and of its pieces.

    Products in float64 count for the float32 products of the same time.
    """
    first, work = jobs[0], Workload(batch=1, prompt=jobs[0].context, output=1)
    held_out = EVALUATIONS * held_out_blocks(first.tokens, first.context) * first.context
    read, found = first.calibration_tokens + first.tokens + held_out, [0.0] * shape.layers
    for own, layers in shape.kinds():
        parent = sum(_forward(half, own, work) for half in (ParentAttention(), ParentFfn()))
        for layer in layers:
            found[layer] = float(read * parent)
    for layer in {job.layer for job in jobs}:
        found[layer] += 2 * first.calibration_tokens * (4 * shape.hidden**2 + widest(shape.at(layer)) ** 2)
    for job in jobs:
        own = shape.at(job.layer)
        both, forward = refinement_tokens(job, shape.hidden)
        found[job.layer] += (job.tokens + both) * training_flop(job, own)
        for part in (job.attention, job.ffn):
            if part is not None and part.trainable:
                n = _inputs(part, own)
                solved = 2 * n**3 / 3 + 4 * n**2 * own.hidden + _rounding_flop(part, own)
                found[job.layer] += FLOAT64 * solved + forward * _forward(part, own, work)
    return found[: 1 + max(job.layer for job in jobs)]


def training_flop(job: BldJob, own: Shape) -> int:
    """Return the FLOP of a piece in training, a token."""
    alternatives = [a for a in (job.attention, job.ffn) if a is not None]
    if any(a.solved_by == job.init for a in alternatives) or all(is_frozen(a) for a in alternatives):
        return 0  # optimal as it starts, or frozen
    work = Workload(batch=1, prompt=job.context, output=1)
    first = sum(math.prod(size) for name, size in job.shapes.items() if name.startswith(READ_FIRST))
    return sum(3 * _forward(a, own, work) for a in alternatives) - 2 * first


def _forward(alternative: Alternative, own: Shape, work: Workload) -> int:
    """Return the FLOP of a sub-block's forward pass, a token."""
    return sub_block_flop(own, alternative, work)[0] // work.prompt


def body_flop(shape: Shape, prompt: int) -> float:
    """Return the FLOP of a token in the parent's layers, in a prefill of so many."""
    work, halves = Workload(1, prompt, 1), (ParentAttention(), ParentFfn())
    kinds = ((own, len(layers)) for own, layers in shape.kinds())
    return sum(count * sub_block_flop(own, half, work)[0] for own, count in kinds for half in halves) / prompt


def held_out_blocks(tokens: int, context: int) -> int:
    """Return the number of held-out blocks of a BLD with so many training tokens."""
    return max(1, -(-min(HELD_OUT_TOKENS, tokens // 8) // context))


def _inputs(alternative: Alternative, own: Shape) -> int:
    """Return the inputs of the map that least squares fit."""
    alone = alternative.alone(own)
    return alone.query_heads * own.head_dim or min(alone.channels, widest(own)) or own.hidden


def _rounding_flop(alternative: Alternative, own: Shape) -> float:
    """Return the FLOP of GPTQ's two orders on each matrix, and what its loop over columns takes beside them."""
    if alternative.dtype is None:
        return 0.0
    sizes = (
        weight.shape
        for name, weight in alternative.weights(own).items()
        if is_quantised(name, weight.shape) and not weight.of_expert
    )
    return sum(2 * (4 / 3 * n**3 + m * n * (n + 2 * LAZY) + n * COLUMN_FLOP) for m, n in sizes)


def widest(own: Shape) -> int:
    """Return the channels of the widest FFN or expert that is initialised at a time."""
    return max(own.expert_width, own.shared_width) if own.ffn == "moe" else own.ffn_width
