"""Sums over tokens that linear maps are fitted to, and the ridge regressions that solve them.

Sums are float64; each chunk's products are float32, for speed.

Shapes: T tokens, P inputs, Q outputs, F channels of an FFN; B sequences, S positions, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from puzzledsl.models.kernels.products import product, self_product

RIDGE = 1e-4
"""The least ridge, relative to the mean of the Gram matrix's diagonal."""
TOWARDS_START, TOWARDS_ZERO = 5.0, 2.5
"""Ridge times tokens a free input. Held-out error of SmolLM2's layers is lowest within a factor of 3 of these, at 4k as at
16k calibration tokens; with next to no ridge a refit on 4k tokens is worse than none."""


@dataclass
class Gram:
    """X'X (P, P), X'Y (P, Q), column sums of X (P,), ||Y||^2 () and the number of tokens; float64, on the tokens' device."""

    xx: Tensor
    xy: Tensor
    x_sum: Tensor
    y_square: Tensor
    tokens: int = 0

    @classmethod
    def zeros(cls, inputs: int, outputs: int, device: torch.device | str = "cpu") -> Gram:
        """Sums over no tokens yet; `outputs` may be 0."""

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        return cls(zeros(inputs, inputs), zeros(inputs, outputs), zeros(inputs), zeros())

    @property
    def yy(self) -> float:
        """||Y||^2, read from the device."""
        return float(self.y_square)

    def add(self, x_TP: Tensor, y_TQ: Tensor | None = None) -> None:
        """Count in a chunk of tokens (any leading dimensions)."""
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
    """The absolute ridge for a Gram matrix, a float64 scalar: never 0, so that unused inputs do no harm."""
    return (relative * xx.diagonal().mean().double()).clamp_min(1e-12)


def solve_ridge(xx: Tensor, xy: Tensor, start: Tensor | None = None, *, relative: float = RIDGE) -> Tensor:
    """argmin_W ||X W - Y||^2 + ridge * ||W - start||^2, float64 (P, Q). Without a start the ridge pulls towards 0."""
    ridge = ridge_of(xx, relative)
    damped = xx + ridge * torch.eye(xx.shape[0], dtype=xx.dtype, device=xx.device)
    target = xy if start is None else xy - xx @ start
    factor, info = torch.linalg.cholesky_ex(damped)
    definite = int(info) == 0  # or rounding of the float32 products has the better of a tiny ridge
    step = (
        torch.cholesky_solve(target, factor)
        if definite
        else torch.linalg.pinv(damped, hermitian=True) @ target
    )
    return cast(Tensor, step if start is None else start + step)


def refit(gram: Gram, weight_QP: Tensor) -> Tensor:
    """A linear map's weights, fitted anew to the sums and pulled towards what they were; as `nn.Linear` stores them."""
    start = weight_QP.T.to(gram.xx)
    fitted = solve_ridge(gram.xx, gram.xy, start, relative=gram.ridge(TOWARDS_START))
    return fitted.T.to(weight_QP).contiguous()


def residual(gram: Gram, weights: Tensor) -> float:
    """||X W - Y||^2 / ||Y||^2 on the tokens of the sums: normalised MSE (Puzzle, section 3), for W (P, Q)."""
    w = weights.to(gram.xx)
    error = gram.yy - 2 * float((w * gram.xy).sum()) + float((w * (gram.xx @ w)).sum())
    return max(error, 0.0) / max(gram.yy, 1e-300)


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """Inputs and outputs of a layer's two sub-blocks, each [B, S, H]. A sub-block that is not there gives zeros.

    Inputs and outputs are those of the modules, so inputs are normed if there is a norm before. `…_added` are the outputs
    behind the norm there, if there is one: up to a factor of the whole model, they are added to the residual stream.
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
    activations: Gram  # what down_proj reads, by itself
    activation_abs: Tensor  # sum over tokens of |activation| (F,), float64
    calls: list[TracedBatch] = field(default_factory=list)
    expert_orders: list[list[int]] | None = None  # of a mixture, first to go first; serve every number
    channel_order: Tensor | None = None  # FFN channels, first to go first; made once, serves every width

    @property
    def tokens(self) -> int:
        """Number of calibration tokens counted."""
        return self.attention.tokens
