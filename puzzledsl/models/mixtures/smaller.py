"""A smaller mixture: fewer experts, narrower ones, another number of experts a token.

Shapes: T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.fit import refit
from puzzledsl.models.mixtures.narrow import narrow


def smaller(
    mixture: Mixture,
    order: Sequence[int],
    x_TH: Tensor,
    y_TH: Tensor,
    *,
    experts: int,
    top_k: int,
    width: int,
) -> Mixture:
    """Return the mixture of these sizes that least squares finds nearest to y; `order`: experts, first to go first."""
    kept = sorted(order[len(order) - experts :])
    fewer = replace(mixture.only(kept), top_k=top_k)
    return refit(narrow(fewer, x_TH, width), x_TH, y_TH)
