"""FLOP of a forward pass, counted: independent of the hardware, and exact up to the use of the mean context.

A multiplication and an addition are two FLOP. Norms, activations, the softmax and look-ups are not counted (below 1 %), nor
are the experts of a mixture that a token does not choose.
"""

import functools
from fractions import Fraction
from math import ceil

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.weights import Size, scan_flop, split
from puzzledsl.base.frozen import Record
from puzzledsl.ir.nodes import Shape


class Workload(Record):
    """Scenario at one batch size: `batch` sequences of `prompt` tokens, each continued by `output` tokens."""

    batch: int
    prompt: int
    output: int


def fixed_size(shape: Shape, gpus: int = 1) -> Size:
    """Return the size of embedding, final norm and head on each GPU; tied ones count once, and only the head is `active`."""
    matrix = split(shape.vocab, gpus) * shape.hidden
    return Size(matrix if shape.tied else 2 * matrix, shape.hidden, matrix)


def mean_context(prompt: int, output: int, window: int | None) -> Fraction:
    """Mean tokens a generated token attends to: prompt + output / 2, or less where a window cuts it off."""
    if window is None or window >= prompt + output:
        return prompt + Fraction(output, 2)
    if window <= prompt:
        return Fraction(window)
    growing = window - prompt  # steps before the window is full
    return (growing * (prompt + Fraction(growing, 2)) + (output - growing) * window) / output


def causal_pairs(prompt: int, window: int | None) -> Fraction:
    """Return the number of (query, key) pairs of causal attention over one prompt; with a window, of those inside it."""
    span = prompt if window is None else min(prompt, window)
    return Fraction(span * span, 2) + (prompt - span) * span


@functools.lru_cache(maxsize=4096)  # layers are much alike
def sub_block_flop(shape: Shape, alternative: Alternative, work: Workload) -> tuple[int, int]:
    """FLOP of one prefill of the batch and of one decode step of it, over all GPUs; rounded up."""
    prefill, decode = mean_flop(shape, alternative, work)
    return ceil(prefill), ceil(decode)


def mean_flop(shape: Shape, alternative: Alternative, work: Workload) -> tuple[Fraction, Fraction]:
    """Return the FLOP of `sub_block_flop` before rounding; they are proportional to the batch."""
    own = alternative.alone(shape)
    per_token = 2 * alternative.size(shape).active + scan_flop(own)
    prefill = Fraction(per_token * work.batch * work.prompt)
    decode = Fraction(per_token * work.batch)
    if heads := own.query_heads:
        window, per_pair = own.attended, 4 * heads * shape.head_dim
        prefill += work.batch * per_pair * causal_pairs(work.prompt, window)
        decode += work.batch * per_pair * mean_context(work.prompt, work.output, window)
    return prefill, decode


def fixed_flop(shape: Shape, work: Workload) -> int:
    """FLOP of the head, in a prefill as in a decode step: only each sequence's last position goes through it."""
    return 2 * fixed_size(shape).active * work.batch


def met_weights(shape: Shape) -> tuple[tuple[int, ...], int]:
    """Return the number of the parent's matrix weights that a token is multiplied with: in each layer, and in the head."""
    halves = ParentAttention(), ParentFfn()
    layers = (sum(half.size(own).active for half in halves) for own in shape.each)
    return tuple(layers), fixed_size(shape).active
