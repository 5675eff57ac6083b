"""Sums over tokens that linear maps are fitted to, the ridge regressions that solve them, and the FFN channels to keep.

Sums are float64; each chunk's products are float32, for speed. Channels are removed by optimal brain surgeon on the output error:
with G = A'A the Gram matrix of the intermediate activations and W = W_down' (F, H), removing channel c costs ||W_c||^2 /
[G^-1]_cc once the others have made up for it. One elimination order serves every width.

Shapes: T tokens, P inputs, Q outputs, F channels of an FFN; B sequences, S positions, H hidden.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.base.frozen import Record
from puzzledsl.models.kernels.products import product, self_product
from puzzledsl.plan.flop import BLOCK_SHARE, MAX_BLOCK

RIDGE = 1e-4  # the least ridge, relative to the mean of the Gram matrix's diagonal
TOWARDS_START, TOWARDS_ZERO = 5.0, 2.5
"""Relative ridge x tokens per input, for fits pulled towards a start, and towards 0. Held-out error of SmolLM2's layers is lowest
within a factor of 3 of these, at 4k as at 16k calibration tokens; with next to none, a refit on 4k tokens is worse than none."""


@dataclass
class Gram:
    """X'X (P, P), X'Y (P, Q), column sums of X (P,), ||Y||^2 () and the number of tokens; float64, on the tokens' device."""

    xx: Tensor
    xy: Tensor
    x_sum: Tensor
    y_square: Tensor
    tokens: int = 0

    @classmethod
    def zeros(cls, inputs: int, outputs: int, device: torch.device | str = "cpu") -> Self:
        """Return sums over no tokens yet. `outputs` may be 0, for sums of X alone."""

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        return cls(zeros(inputs, inputs), zeros(inputs, outputs), zeros(inputs), zeros())

    @property
    def yy(self) -> float:
        """||Y||^2 as a float, read from the device."""
        return float(self.y_square)

    def add(self, x_TP: Tensor, y_TQ: Tensor | None = None) -> None:
        """Add a chunk of tokens, of any leading dimensions, to the sums; without `y_TQ`, to those of X alone."""
        x = x_TP.detach().reshape(-1, x_TP.shape[-1])
        self.xx += self_product(x)
        self.x_sum += x.sum(0, dtype=torch.float32)
        self.tokens += x.shape[0]
        if y_TQ is not None:
            y = y_TQ.detach().reshape(-1, y_TQ.shape[-1])
            self.xy += product(x.T, y)
            self.y_square += y.float().square().sum(dtype=torch.float64)

    def ridge(self, strength: float) -> float:
        """The relative ridge for this many tokens: `strength` * P / T, and never less than RIDGE."""
        return max(RIDGE, strength * self.xx.shape[0] / max(self.tokens, 1))

    def augmented(self) -> Tensor:
        """The Gram matrix (P + 1, P + 1) of X with a column of ones, for maps with a bias."""
        count = self.x_sum.new_full((1, 1), float(self.tokens))
        row = self.x_sum[None, :]
        return torch.cat([torch.cat([self.xx, row.T], 1), torch.cat([row, count], 1)], 0)


def ridge_of(xx: Tensor, relative: float = RIDGE) -> Tensor:
    """`relative` times the mean of a Gram matrix's diagonal, a float64 scalar: never 0, so that unused inputs do no harm."""
    return (relative * xx.diagonal().mean().double()).clamp_min(1e-12)


def solve_ridge(xx: Tensor, xy: Tensor, start: Tensor | None = None, *, relative: float = RIDGE) -> Tensor:
    """argmin_W ||X W - Y||^2 + ridge * ||W - start||^2, float64 (P, Q). Without a start the ridge pulls towards 0."""
    ridge = ridge_of(xx, relative)
    damped = xx + ridge * torch.eye(xx.shape[0], dtype=xx.dtype, device=xx.device)
    target = xy if start is None else xy - xx @ start
    factor, info = torch.linalg.cholesky_ex(damped)
    step = torch.cholesky_solve(target, factor)
    if int(info):  # not definite: rounding of the float32 products has the better of a tiny ridge
        step = torch.linalg.pinv(damped, hermitian=True) @ target
    return step if start is None else start + step


def refit(gram: Gram, weight_QP: Tensor) -> Tensor:
    """Return a linear map's weights (Q, P), refitted to the sums with a ridge towards the old ones, in their dtype."""
    start = weight_QP.T.to(gram.xx)
    fitted = solve_ridge(gram.xx, gram.xy, start, relative=gram.ridge(TOWARDS_START))
    return fitted.T.to(weight_QP).contiguous()


class LayerTrace(Record):
    """Inputs and outputs of a layer's two sub-blocks, each [B, S, H]. A sub-block that is not there gives zeros.

    Inputs and outputs are those of the modules, so inputs are normed if there is a norm before. `…_added` is the output after
    the norm behind the module, if there is one; times a factor of the model (mostly 1), it is added to the residual stream.
    """

    attention_input: Tensor
    attention_output: Tensor
    attention_added: Tensor
    between: Tensor  # the stream after attention
    ffn_input: Tensor
    ffn_output: Tensor
    ffn_added: Tensor
    output: Tensor
    attention_kwargs: dict[str, Any]  # the attention module's other arguments
    layer_kwargs: dict[str, Any]  # the layer's


TracedBatch = tuple[Tensor, LayerTrace]
"""Hidden states [B, S, H] that enter a layer, and the trace of the parent's layer on them."""


@dataclass
class LayerStatistics:
    """Calibration statistics of one layer. Grams are float64."""

    attention: Gram  # normed input -> attention output
    ffn: Gram  # normed input -> FFN output
    activations: Gram  # of what down_proj reads, without outputs
    activation_abs: Tensor  # sum over tokens of |activation| (F,), float64
    calls: list[TracedBatch] = field(default_factory=list)
    expert_orders: list[list[int]] | None = None  # of a mixture: orders to remove experts in
    channel_order: Tensor | None = None  # order to remove FFN channels in; made once for all widths

    @property
    def tokens(self) -> int:
        """Number of calibration tokens counted."""
        return self.attention.tokens


POOL = 4
"""A round removes n of the channels left (`BLOCK_SHARE`), chosen one by one among the 4 n that cost least."""
ORDER_RIDGE = 0.1  # relative; from 1e-3 to 1 the held-out error of SmolLM2's layers changes by 1 %


def elimination_order(gram_FF: Tensor, down_FH: Tensor) -> Tensor:
    """Return the channels (F,), int64, in the order to remove them in. Float64 inside; F^3 multiplications, in blocks.

    Within a round the choice is greedy and exact among the candidates; the other channels are updated at the round's end.
    """
    device, alive = gram_FF.device, np.arange(gram_FF.shape[0])
    inverse = inverted(damped(gram_FF))
    weights = down_FH.to(gram_FF).clone()
    order: list[int] = []
    while len(alive) > 0:
        block = max(1, min(len(alive) // BLOCK_SHARE, MAX_BLOCK))
        pool = min(POOL * block, len(alive)) if block > 1 else 1
        cost = weights.square().sum(1) / inverse.diagonal()
        candidates = torch.topk(cost, pool, largest=False).indices
        chosen = _greedy(candidates, inverse[candidates][:, candidates], weights[candidates], block)
        order += alive[chosen].tolist()
        stays = np.ones(len(alive), dtype=np.bool_)
        stays[chosen] = False
        moved = torch.from_numpy(np.concatenate([chosen, stays.nonzero()[0]])).to(device)
        gone, keep = moved[: len(chosen)], moved[len(chosen) :]
        rows = inverse[gone]
        gain = torch.linalg.solve(rows[:, gone], rows[:, keep]).T
        weights = torch.addmm(weights[keep], gain, weights[gone], alpha=-1)
        inverse = torch.addmm(inverse[keep].index_select(1, keep), gain, rows[:, keep], alpha=-1)
        alive = alive[stays]
    return torch.tensor(order, dtype=torch.int64, device=device)


def damped(gram_FF: Tensor) -> Tensor:
    """The Gram matrix with each diagonal entry raised by ORDER_RIDGE of itself: a silent channel stays free to remove."""
    return gram_FF + torch.diag(ORDER_RIDGE * gram_FF.diagonal() + ridge_of(gram_FF, 1e-9))


def inverted(symmetric: Tensor) -> Tensor:
    """The inverse of a symmetric matrix; the pseudo-inverse if it is not definite."""
    factor, info = torch.linalg.cholesky_ex(symmetric)
    return torch.cholesky_inverse(factor) if int(info) == 0 else torch.linalg.pinv(symmetric, hermitian=True)


def _greedy(candidates: Tensor, inverse_PP: Tensor, weights_PH: Tensor, count: int) -> NDArray[np.int64]:
    """Return the `count` candidates to remove, one by one the cheapest left; in NumPy, for thousands of tiny steps."""
    parts = [candidates[None].to(inverse_PP), inverse_PP, weights_PH @ weights_PH.T]
    (places,), inverse, cross = np.split(torch.cat(parts).cpu().numpy(), [1, 1 + len(candidates)])
    penalty = np.zeros(len(inverse))
    gone = []
    for _ in range(count):
        cost = cross.diagonal() / np.maximum(inverse.diagonal(), 1e-300) + penalty
        c = int(cost.argmin())
        gone.append(c)
        penalty[c] = np.inf
        gain = inverse[:, c] / inverse[c, c]
        moved = np.outer(gain, cross[c])
        cross += np.outer(gain, gain * cross[c, c]) - moved - moved.T
        inverse -= np.outer(gain, inverse[c])
    chosen: NDArray[np.int64] = places[gone].astype(np.int64)
    return chosen


def contribution_order(activation_abs_F: Tensor, down_FH: Tensor) -> Tensor:
    """Channels by rising contribution mean|a_c| * ||W_c|| (Puzzle, section 3: channel contribution), first to go first."""
    return torch.argsort(activation_abs_F * down_FH.to(activation_abs_F).norm(dim=1), stable=True)


def fitted_channels(gram: Gram, start_PH: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the `width` inputs to keep, ascending, and the map from them (width, H), float64, fitted near `start_PH`."""
    ridge = gram.ridge(TOWARDS_START)
    full = solve_ridge(gram.xx, gram.xy, start_PH, relative=ridge)
    kept = elimination_order(gram.xx, full)[len(full) - width :].sort().values
    return kept, solve_ridge(gram.xx[kept][:, kept], gram.xy[kept], full[kept], relative=ridge)


def refit_down(activations: Gram, down_FH: Tensor, kept: Tensor) -> Tensor:
    """The down projection (len(kept), H) of the kept channels that is nearest to the full FFN's output, float64."""
    full = down_FH.to(activations.xx)
    rows = activations.xx[kept]
    ridge = activations.ridge(TOWARDS_START)
    return solve_ridge(rows[:, kept], rows @ full, start=full[kept], relative=ridge)
