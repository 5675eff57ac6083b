"""Statistics of the output head's logits, computed tile by tile so that a position's logits are never all in memory.

With z the logits of a position, L = logsumexp(z), p the parent's probabilities and w_v the head's rows,

    KL(parent || child) = L_child - L_parent - sum_v p_v (z_child,v - z_parent,v)
                        = L_child - L_parent - (h_child - h_parent) . e        where e = sum_v p_v w_v

so L, e and h of the parent, 2 H + 1 numbers per position in place of V, are enough; a bias of the head cancels. A child with rows
w'_v of its own has h_child . e' - h_parent . e in place of the last product, where e' = sum_v p_v w'_v.

Shapes: P positions, H hidden, V vocabulary, T tokens of a tile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import PackedWeights, linear
from puzzledsl.plan.memory.stage_plan import tiles

T = TypeVar("T")


class Vocabulary:
    """A model's output head, [V, H]. A thread holds at most two tiles of float32 logits."""

    def __init__(self, weight_VH: Tensor, bias_V: Tensor | None) -> None:
        self.weight_VH, self.bias_V = weight_VH, bias_V
        sizes = tiles(self.weight_VH.device.type)
        self._positions = sizes.logit_positions
        self._tiles = list(torch.split(self.weight_VH, sizes.logit_tokens))
        self._packed = PackedWeights(self._tiles)
        self._of_thread = threading.local()

    def logsumexp(self, normed_PH: Tensor) -> Tensor:
        """Return L = logsumexp of the logits of every position, float32 [P]."""
        found = []
        for rows in torch.split(normed_PH, self._positions):
            parts = self._over(rows, lambda _, logits_PT: self._logsumexp(logits_PT))
            found.append(torch.logsumexp(torch.stack(list(parts), 1), 1))
        return torch.cat(found) if found else normed_PH.new_empty(0, dtype=torch.float32)

    def expected(self, normed_PH: Tensor, logsumexp_P: Tensor, rows_VH: Tensor | None = None) -> Tensor:
        """Return e, the mean of the head's rows, or of another's, under the model's own probabilities, float32 [P, H]."""
        rows_VH = self.weight_VH if rows_VH is None else rows_VH
        found = []
        for rows, total_P in zip(
            torch.split(normed_PH, self._positions), torch.split(logsumexp_P, self._positions), strict=True
        ):
            mean_PH = torch.zeros_like(rows, dtype=torch.float32)
            for part_PH in self._over(rows, partial(_expected, rows_VH, total_P)):
                mean_PH += part_PH
            found.append(mean_PH)
        return torch.cat(found) if found else normed_PH.new_empty(normed_PH.shape, dtype=torch.float32)

    def logits_of(self, normed_PH: Tensor, tokens_P: Tensor) -> Tensor:
        """Return the logit of one given token for each position, float32 [P]."""
        logits_P = self.rows_product(normed_PH, tokens_P).float()
        return logits_P if self.bias_V is None else logits_P + self.bias_V[tokens_P].float()

    def rows_product(self, states_PH: Tensor, tokens_P: Tensor) -> Tensor:
        """Return the dot product of each state with the head's row of its token, without the bias, float64 [P]."""
        return (states_PH.float() * self.weight_VH[tokens_P].float()).sum(-1, dtype=torch.float64)

    def _over(self, rows_PH: Tensor, use: Callable[[slice, Tensor], T]) -> Iterator[T]:
        """Yield `use(slice of tokens, their logits [P, T])` of each tile. A tile is freed before the next is computed."""
        first = 0
        for weight_TH in self._tiles:
            tokens = slice(first, first + len(weight_TH))
            first = tokens.stop
            bias_T = None if self.bias_V is None else self.bias_V[tokens]
            yield use(tokens, self._logits(rows_PH, weight_TH, bias_T))

    def _logits(self, rows_PH: Tensor, weight_TH: Tensor, bias_T: Tensor | None) -> Tensor:
        """Return float32 logits [P, T]: 16-bit ones are coarser than a small change of a model is large."""
        if rows_PH.dtype == torch.float32:
            return linear(rows_PH, weight_TH, bias_T, self._packed)
        logits_PT = float32_products.product(rows_PH, weight_TH.T)
        return logits_PT if bias_T is None else logits_PT.add_(bias_T)

    def _logsumexp(self, logits_PT: Tensor) -> Tensor:
        """Compute logsumexp as logit - log_softmax of the tile's first token: the fused kernel takes one pass."""
        first_P = logits_PT[:, 0]
        return first_P - torch.log_softmax(logits_PT, -1, out=self._spare(logits_PT))[:, 0]

    def _spare(self, like_PT: Tensor) -> Tensor:
        """Return this thread's scratch tile, reused by every call, in the shape of `like_PT`."""
        if not hasattr(self._of_thread, "tile"):
            size = self._positions * len(self._tiles[0])
            self._of_thread.tile = like_PT.new_empty(size)
        return cast(Tensor, self._of_thread.tile[: like_PT.numel()].view(like_PT.shape))


def _expected(rows_VH: Tensor, total_P: Tensor, tokens: slice, logits_PT: Tensor) -> Tensor:
    return logits_PT.sub_(total_P[:, None]).exp_() @ rows_VH[tokens].float()
