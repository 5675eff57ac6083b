"""A smaller mixture: fewer experts, narrower ones, another number of experts a token.

Shapes: T tokens, H hidden.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from puzzledsl.models.mixtures.choose import least_damage
from puzzledsl.models.mixtures.experts import Mixture
from puzzledsl.models.mixtures.fit import refit
from puzzledsl.models.mixtures.narrow import narrow


def smaller(mixture: Mixture, x_TH: Tensor, *, experts: int, top_k: int, width: int) -> Mixture:
    """Return the mixture of these sizes that least squares finds nearest to `mixture` on its inputs x."""
    y_TH = mixture(x_TH)
    fewer = mixture.only(least_damage(mixture, x_TH, y_TH, experts))
    return refit(narrow(replace(fewer, top_k=top_k), x_TH, width), x_TH, y_TH)
