"""A smaller mixture: fewer experts, narrower ones, another number of experts a token.

Experts that go are dropped, or merged into those that stay: whichever is nearer on tokens that neither was fitted to.

Shapes: T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.fit import refit, refit_downs, unseen
from puzzledsl.models.mixtures.merge import groups_of, merge
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
    if experts == len(order):
        return refit(narrow(fewer, x_TH, width), x_TH, y_TH)
    judges = unseen(x_TH)
    x, y = x_TH[~judges], y_TH[~judges]
    merged = merge(mixture, groups_of(mixture, kept, x), x, width)
    options = [narrow(fewer, x, width), replace(merged, top_k=top_k)]
    errors = [refit_downs(option, x, y).error(x_TH[judges], y_TH[judges]) for option in options]
    return refit(options[errors.index(min(errors))], x_TH, y_TH)
