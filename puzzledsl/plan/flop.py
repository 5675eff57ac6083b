"""FLOP of stage one by layer: the parent's forward pass, pieces in training and in refinement, Gram matrices, least squares.

FLOP are counted as in `costs.flops`:

    parent, forward             f(parent) per token
    a piece in training         3 f(piece) - 2 W1: forward, gradients of weights and of inputs; no gradient for the inputs of W1,
                                the matrices that read the block's own input
    Gram matrices               2 (4 hidden^2 + intermediate^2) per token; of a mixture those of the experts that a token uses
    refitted attention          f(piece) and 2 (n^2 + n hidden) per calibration token, of n inputs of its last map
    refinement                  points x (f as in training) on the fitted tokens, and f(piece) on all calibration tokens

In float64, in all:

    least squares               2 n^3 / 3 + 4 n^2 hidden of a map with n inputs; before it 2 n F hidden, of F channels
    elimination of channels     2 F^3 for the inverse, F^3 for its updates
    rounding with compensation  2 (4/3 n^3 + n m (n + 64) + 5e6 n) of a map with n inputs and m outputs; 5e6 are what a step
                                of the loop over columns takes beside its products

Factorisations reach half the speed of products, so they count twice. Elimination and the sums of Gram matrices move large
matrices besides (`moved`): elimination F^3 / 3 numbers over the block that a round removes, each five times read and written.

Selection of the pieces to refine before training, and the tokens that refinement uses.

Least-squares initialisation fits only a piece's last map. Refinement (`pieces.initialise.gauss_newton`) then fits all its maps
on half of the calibration tokens, and finally the last map on all of them again.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import is_quantised
from puzzledsl.costs.flops import Workload, fixed_size, sub_block_flop
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
    """Return True for a piece that least squares initialise and that fitting its other maps, not only the last, can improve."""
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
"""Most tokens of a calibration batch, and least number of batches (if there are that many blocks). Several batches are needed
because the last ones judge what is fitted to the others."""
HELD_OUT_TOKENS = 4096
"""Most held-out tokens of a BLD. Of fewer than eight times as many training tokens, an eighth is held out, at least one block."""
BLOCK_SHARE, MAX_BLOCK = 32, 64
"""A round of the elimination removes 1/32 of the channels left, at most 64."""
ELIMINATED_BYTES, SUMMED_BYTES = 80, 80
"""Bytes read and written for each number of the inverse in each round: rows and columns gathered, one update, and their copies;
and for each number of a Gram matrix in each batch: product, its transpose added, halved, added to the float64 sums."""
LAZY, COLUMN_FLOP = 32, 5e6
"""Columns whose errors are collected before they reach the rest of the matrix, and what a column of the loop takes besides."""
READ_FIRST = ("q_proj.", "k_proj.", "v_proj.", "gate_proj.", "up_proj.")


class StageOneFlop:
    """FLOP of a BLD's pieces and of their parent, by layer.

    `parent`: of one token. `moved`: bytes read and written in the whole stage besides. `by_layer`: in the whole stage, of the
    parent's layer and of its pieces; float64 products and moved bytes count as the float32 FLOP that take as long.
    """

    def __init__(self, shape: Shape, jobs: Sequence[BldJob]) -> None:
        first, having, self._shape = jobs[0], {job.layer for job in jobs}, shape
        self._work = Workload(batch=1, prompt=first.context, output=1)
        self.parent, self.by_layer = [0] * shape.layers, [0.0] * shape.layers
        self.moved: defaultdict[int, float] = defaultdict(float)
        calibration, tokens = first.calibration_tokens, first.tokens
        # tokens of training and of its evaluations
        seen = tokens + EVALUATIONS * held_out_blocks(tokens, first.context) * first.context
        for own, layers in shape.kinds():
            flop = sum(self.forward(half, own) for half in (ParentAttention(), ParentFfn()))
            for layer in layers:
                self.parent[layer] = flop
                self.by_layer[layer] = (calibration + seen) * flop
                self.by_layer[layer] += calibration * grams_flop(own) * (layer in having)
        eliminated: set[int] = set()
        for job in jobs:
            own, layer, training = shape.at(job.layer), job.layer, self.training(job)
            parts = [part for part in (job.attention, job.ffn) if part is not None]
            evaluated = sum(self.forward(part, own) for part in parts)
            both, forward = refinement_tokens(job, shape.hidden)
            self.by_layer[layer] += (tokens + both) * training + (seen - tokens + forward) * evaluated
            self.by_layer[layer] += self._refitted(job, own) + FLOAT64 * self._least_squares(job)
            ffn = job.ffn
            chosen = ffn is not None and ffn.trainable and "least_squares" in job.init and own.ffn == "dense"
            channels = ffn.alone(own).channels if ffn is not None and chosen else 0
            if layer not in eliminated and 0 < channels < own.ffn_width:  # chosen by elimination
                eliminated.add(layer)
                self.by_layer[layer] += FLOAT64 * 3 * widest(own) ** 3
                self.moved[layer] += ELIMINATED_BYTES * eliminated_numbers(widest(own))
        batch = max(first.context, min(CALIBRATION_BATCH_TOKENS, max(1, calibration) // CALIBRATION_BATCHES))
        for layer in having:  # adding to its Gram matrices, once for each batch
            numbers = 4 * shape.hidden**2 + widest(shape.at(layer)) ** 2
            self.moved[layer] += math.ceil(max(1, calibration) / batch) * SUMMED_BYTES * numbers
            self.by_layer[layer] += FLOP_PER_BYTE * self.moved[layer]

    def forward(self, alternative: Alternative, own: Shape) -> int:
        """Return the FLOP of a sub-block's forward pass, a token."""
        prefill, _ = sub_block_flop(own, alternative, self._work)
        return prefill // self._work.prompt

    def training(self, job: BldJob) -> int:
        """Return the FLOP of a piece in training, a token; 0 for a piece that is not trained."""
        alternatives = [a for a in (job.attention, job.ffn) if a is not None]
        if any(a.solved_by == job.init for a in alternatives) or all(is_frozen(a) for a in alternatives):
            return 0  # optimal as it starts, or frozen
        first = sum(math.prod(size) for name, size in job.shapes.items() if name.startswith(READ_FIRST))
        own = self._shape.at(job.layer)
        return sum(3 * self.forward(a, own) for a in alternatives) - 2 * first

    def _least_squares(self, job: BldJob) -> float:
        own, found = self._shape.at(job.layer), 0.0
        for alternative in (job.attention, job.ffn):
            if alternative is not None and alternative.trainable:
                inputs = _inputs(alternative, own)
                channels = alternative.alone(own).channels
                found += 2 * inputs**3 / 3 + 4 * inputs**2 * own.hidden
                found += 2 * inputs * own.hidden * (widest(own) if channels else inputs)
                if alternative.dtype is not None:
                    weights = alternative.weights(own).items()
                    on_grid = (w for n, w in weights if is_quantised(n, w.shape) and not w.of_expert)
                    found += sum(matrix_flop(*weight.shape) for weight in on_grid)
        return found

    def _refitted(self, job: BldJob, own: Shape) -> int:
        """Return the FLOP of an attention's outputs on all calibration tokens, and of their Gram matrix."""
        alternative = job.attention
        if alternative is None or not alternative.trainable or alternative.solved_by == job.init:
            return 0
        inputs = own.heads * own.head_dim
        token = self.forward(alternative, own) + 2 * inputs * (inputs + own.hidden)
        return job.calibration_tokens * token


FLOP_PER_BYTE = 10.0
"""FLOP of float32 products that a processor does while it reads a byte."""
FLOAT64, EVALUATIONS = 4, 2
"""Float32 products in the time of one in float64 while GPTQ rounds (a layer of SmolLM2-135M, one core with AVX-512), and passes
over the held-out tokens: before training, and after it."""


def work_by_layer(shape: Shape, jobs: Sequence[BldJob]) -> list[float]:
    """Return the FLOP of each layer up to the last with pieces: of the parent's layer, and of its pieces."""
    return StageOneFlop(shape, jobs).by_layer[: 1 + max(job.layer for job in jobs)]


def layer_work(shape: Shape, jobs: Sequence[BldJob]) -> dict[int, float]:
    """Return the FLOP of each layer that a sweep makes pieces of, with those of the layers without pieces below it."""
    work, having = work_by_layer(shape, jobs), sorted({job.layer for job in jobs})
    ends = zip([-1, *having], having, strict=False)
    return {layer: sum(work[below + 1 : layer + 1]) for below, layer in ends}


def body_flop(shape: Shape, prompt: int) -> float:
    """Return the FLOP of a token in the parent's layers, in a prefill of `prompt` tokens."""
    work, halves = Workload(1, prompt, 1), (ParentAttention(), ParentFfn())
    kinds = ((own, len(layers)) for own, layers in shape.kinds())
    return sum(count * sub_block_flop(own, half, work)[0] for own, count in kinds for half in halves) / prompt


def heads_work(shape: Shape, jobs: Sequence[BldJob]) -> float:
    """Return the FLOP of rounding the head for each of `jobs`, and of the parent's pass that gives the head's inputs."""
    if not jobs:
        return 0.0
    tokens = jobs[0].calibration_tokens
    entering = tokens * (body_flop(shape, jobs[0].context) + 2 * shape.hidden**2)
    return entering + FLOAT64 * len(jobs) * matrix_flop(shape.vocab, shape.hidden)


JUDGING_TOKENS = 1024
"""Most tokens that judge a healed child (at least one block): enough to tell better from worse at little cost."""


@dataclass(frozen=True, slots=True)
class HealingWork:
    """Work of healing a child on `tokens` tokens and judging it on `judging` others, in multiply-adds (two FLOP each)."""

    shape: Shape
    tokens: int
    judging: int

    def parent(self, layers: Iterable[int]) -> float:
        """Return the work of running layers of the parent on all tokens."""
        halves = ParentAttention(), ParentFfn()
        met = sum(half.size(self.shape.at(layer)).active for layer in layers for half in halves)
        return met * (self.tokens + self.judging)

    def run(self, layer: int, alternative: Alternative) -> float:
        """Return the work of running a sub-block of the child on all tokens, and once more, unhealed, on the judging ones."""
        return alternative.size(self.shape.at(layer)).active * (self.tokens + 2 * self.judging)

    def fit(self, layer: int, alternative: Alternative) -> float:
        """Return the work of fitting a sub-block's last map: a Gram matrix with targets, its equations, rounding to a type."""
        own = self.shape.at(layer)
        n, hidden = _inputs(alternative, own), own.hidden
        rounded = 0.0 if alternative.dtype is None else FLOAT64 * matrix_flop(hidden, n) / 2
        return self.tokens * (n**2 + 2 * n * hidden) + n**3 / 3 + 2 * n**2 * hidden + rounded

    @property
    def compared(self) -> float:
        """The work of the logits that compare the child before and after healing with the parent."""
        return 4 * self.judging * fixed_size(self.shape).active

    def of_layers(self, layers: Sequence[tuple[Alternative, Alternative]]) -> float:
        """Return the work of healing these layers, which are a child's last ones."""
        first = self.shape.layers - len(layers)
        healed = (
            self.run(layer, alternative) + self.fit(layer, alternative)
            for layer, pair in enumerate(layers, first)
            for alternative in pair
            if not alternative.removes
        )
        return self.parent(range(first, self.shape.layers)) + sum(healed)


def held_out_blocks(tokens: int, context: int) -> int:
    """Return the number of held-out blocks of a BLD with `tokens` training tokens in blocks of `context`."""
    return max(1, -(-min(HELD_OUT_TOKENS, tokens // 8) // context))


def _inputs(alternative: Alternative, own: Shape) -> int:
    """Return the number of inputs of a sub-block's last map, which least squares fit."""
    alone = alternative.alone(own)
    return alone.query_heads * own.head_dim or min(alone.channels, widest(own)) or own.hidden


@cache
def eliminated_numbers(channels: int) -> int:
    """Return the sum over rounds of the square of the channels left, as `models.least_squares.grams` removes them."""
    total = 0
    while channels > 0:
        total += channels**2
        channels -= max(1, min(channels // BLOCK_SHARE, MAX_BLOCK))
    return total


def matrix_flop(rows: int, columns: int) -> float:
    """Return the FLOP of rounding a matrix with GPTQ in both of its orders, and the FLOP that its loop over columns costs."""
    return 2 * (4 / 3 * columns**3 + rows * columns * (columns + 2 * LAZY) + columns * COLUMN_FLOP)


def grams_flop(own: Shape) -> int:
    """Return the FLOP of one token's contribution to the Gram matrices of a layer."""
    of_experts = own.top_k * own.expert_width**2 + own.shared_width**2
    return 2 * (4 * own.hidden**2 + (of_experts if own.ffn == "moe" else own.ffn_width**2))


def widest(own: Shape) -> int:
    """Return the channels of the widest FFN or expert that is initialised at a time."""
    return max(own.expert_width, own.shared_width) if own.ffn == "moe" else own.ffn_width
