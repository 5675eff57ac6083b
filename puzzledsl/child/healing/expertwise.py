"""Ridge regression of a mixture's down projections, expert by expert (block Gauss-Seidel).

It solves the equations of `child.healing.fit` for mixtures of so many channels that these do not fit into memory together: one
expert's are solved at a time, for what the others leave.

Shapes: T tokens, N tokens of an expert, H hidden, P inputs of an expert's matrix, Q = 2 H targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from puzzledsl.child.healing.experts import ExpertByExpert
from puzzledsl.models.least_squares.grams import RIDGE, Gram, solve_ridge

SWEEPS = 5
"""Passes over the experts."""


def expert_steps(
    last: ExpertByExpert, x_TH: Tensor, weight_T1: Tensor, wanted_TQ: Tensor, ridge_tokens: float
) -> list[Tensor]:
    """Return the steps of all experts' matrices, float32 [Q, P] each.

    `weight_T1`: square root of the tokens' weights, which `wanted_TQ` has been multiplied by.
    """
    ridge = _ridge(last, x_TH, weight_T1, ridge_tokens)
    steps_QP = [weight.new_zeros(wanted_TQ.shape[1], weight.shape[1]) for weight in last.matrices_HP]
    missing_TQ = wanted_TQ.clone()
    for _ in range(SWEEPS):
        for e, (tokens, read_NP) in enumerate(last.split.read(x_TH)):
            if not len(tokens):
                continue
            read_NP = read_NP * weight_T1[tokens]
            gram = Gram.zeros(read_NP.shape[1], wanted_TQ.shape[1], read_NP.device)
            gram.add(read_NP, missing_TQ[tokens])
            before = steps_QP[e].T.double()
            after = solve_ridge(gram.xx, gram.xy + gram.xx @ before, relative=ridge / _mean(gram.xx))
            missing_TQ.index_add_(0, tokens, read_NP @ (after - before).float(), alpha=-1)
            steps_QP[e] = after.T.float()
    return steps_QP


def _ridge(last: ExpertByExpert, x_TH: Tensor, weight_T1: Tensor, ridge_tokens: float) -> float:
    """Return the ridge that all channels together would have: relative to the mean of their squares over all tokens."""
    square, inputs = 0.0, 0
    for tokens, read_NP in last.split.read(x_TH):
        square += float((read_NP * weight_T1[tokens]).square().sum(dtype=torch.float64))
        inputs += read_NP.shape[1]
    return max(RIDGE, ridge_tokens * inputs / len(x_TH)) * square / inputs


def _mean(xx: Tensor) -> float:
    return max(float(xx.diagonal().mean()), 1e-30)
