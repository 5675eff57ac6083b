"""A smaller mixture: fewer experts, narrower ones, another number of experts a token.

Each order names experts to keep; the others are dropped, or merged into these. The best of all is chosen by its error on tokens
that it was not fitted to, and is made again for the last fit: one at a time is in memory. Merging lowers the loss of a child of
half the experts by a third (docs/science.md).

Shapes: T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.fit import overwrite, overwrite_downs, unseen
from puzzledsl.models.mixtures.merge import groups_of, merge, most_together
from puzzledsl.models.mixtures.narrow import narrow


def smaller(
    mixture: Mixture,
    orders: Sequence[Sequence[int]],
    x_TH: Tensor,
    y_TH: Tensor,
    *,
    experts: int,
    top_k: int,
    width: int,
) -> Mixture:
    """Return the mixture of these sizes that least squares finds nearest to y; `orders`: experts, first to go first."""
    if experts == len(mixture.experts):
        return overwrite(narrow(replace(mixture, top_k=top_k), x_TH, width), x_TH, y_TH)
    judges = unseen(x_TH)
    x, y = x_TH[~judges], y_TH[~judges]
    together = most_together(mixture, experts, width)
    ways: list[Callable[[], Mixture]] = []
    for kept in dict.fromkeys(tuple(sorted(order[-experts:])) for order in orders):
        ways.append(partial(narrow, replace(mixture.only(kept), top_k=top_k), x, width))
        if together > 1:
            ways.append(partial(_merged, mixture, groups_of(mixture, kept, x, together), x, width, top_k))
    if len(ways) == 1:
        return overwrite(ways[0](), x_TH, y_TH)

    def error(way: Callable[[], Mixture]) -> float:
        made = way()
        overwrite_downs(made, x, y)
        return made.error(x_TH[judges], y_TH[judges])

    return overwrite(min(ways, key=error)(), x_TH, y_TH)


def _merged(
    mixture: Mixture, groups: Sequence[Sequence[int]], x_TH: Tensor, width: int, top_k: int
) -> Mixture:
    return replace(merge(mixture, groups, x_TH, width), top_k=top_k)
