"""The module of a low-rank FFN, and its least-squares start (SVD-LLM, arXiv 2403.07378).

With G = X'X the Gram matrix of a map's inputs and G = L L', the matrix of rank R nearest to W in the metric of the
activations, argmin ||X (W - M)||, is L'^-1 times the best rank-R approximation of L' W. Shapes: P inputs, Q outputs.
"""

from __future__ import annotations

import torch
from low_rank import LowRankFfn
from torch import Tensor, nn

from puzzledsl.models.alternatives.realisation import ParentLayer, Site, State, like
from puzzledsl.models.least_squares.grams import Gram, ridge_of


class LowRankMlp(nn.Module):
    """Gated FFN whose maps are products of two."""

    def __init__(self, config, rank):  # type: ignore[no-untyped-def]
        super().__init__()
        hidden, width, bias = config.hidden_size, config.intermediate_size, getattr(config, "mlp_bias", False)
        self.gate_in, self.gate_out = nn.Linear(hidden, rank, bias=False), nn.Linear(rank, width, bias=bias)
        self.up_in, self.up_out = nn.Linear(hidden, rank, bias=False), nn.Linear(rank, width, bias=bias)
        self.down_in, self.down_out = nn.Linear(width, rank, bias=False), nn.Linear(rank, hidden, bias=bias)

    def forward(self, hidden_states):  # type: ignore[no-untyped-def]
        """Map [B, S, H] to [B, S, H]."""
        gate = nn.functional.silu(self.gate_out(self.gate_in(hidden_states)))
        return self.down_out(self.down_in(gate * self.up_out(self.up_in(hidden_states))))


MODULE = LowRankMlp


def build(alternative: LowRankFfn, site: Site) -> nn.Module:
    """Build the module."""
    module = LowRankMlp(site.config, alternative.rank)
    return module.to(device=site.device, dtype=site.dtype).eval()


def initialise(alternative: LowRankFfn, parent: ParentLayer) -> State:
    """Factorise each of the parent's maps in the metric of its own inputs."""
    own, statistics = parent.weights("ffn"), parent.statistics
    state: State = {}
    for name, gram in (("gate", statistics.ffn), ("up", statistics.ffn), ("down", statistics.activations)):
        weight = own[f"{name}_proj.weight"]
        thin_RP, wide_QR = factors(weight, gram, alternative.rank)
        state |= {f"{name}_in.weight": like(thin_RP, weight), f"{name}_out.weight": like(wide_QR, weight)}
        if (bias := own.get(f"{name}_proj.bias")) is not None:
            state[f"{name}_out.bias"] = bias
    return state


def factors(weight_QP: Tensor, gram: Gram, rank: int) -> tuple[Tensor, Tensor]:
    """A (R, P) and B (Q, R) with the least ||X (W' - (B A)')|| on the tokens of the sums, in float64."""
    damped = gram.xx + ridge_of(gram.xx) * torch.eye(len(gram.xx), dtype=gram.xx.dtype, device=gram.xx.device)
    lower = torch.linalg.cholesky(damped)
    left, scale, right = torch.linalg.svd(lower.T @ weight_QP.T.to(lower), full_matrices=False)
    root = scale[:rank].sqrt()
    thin = torch.linalg.solve_triangular(lower.T, left[:, :rank] * root, upper=True)
    return thin.T, right[:rank].T * root
