"""Least-squares fits of a mixture's down projections and router rows to outputs, one expert at a time.

With fixed routing a mixture is linear in its down projections: y(x) = sum_e g_e(x) D_e a_e(x). Gauss-Seidel over the
experts solves for all of them with the Gram matrix of one at a time. The router is refitted by Gauss-Newton steps,
again row by row: dy/dlogit_e = g_e (o_e - y) where the weights of a token's experts sum to 1.

Shapes: T tokens, N tokens of an expert, H hidden, W channels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import Mixture, owning_downs

SWEEPS = 5
"""Gauss-Seidel sweeps over the down projections. From 3 to 8, the held-out error of layers falls by 2 % to 13 %."""
ROUTER_RIDGE = 3.0
"""Ridge times tokens a weight of a router row."""
ROUTER_STEPS = 2
SHARES = (1.0, 0.7, 0.4, 0.2)
"""Shares of a step of the router that are tried on tokens it was not fitted to."""
UNSEEN = 8
"""One of so many tokens judges the router's steps."""


def overwrite_downs(
    mixture: Mixture, x_TH: Tensor, y_TH: Tensor, importance_T1: Tensor | float = 1.0, sweeps: int = SWEEPS
) -> None:
    """Fit the down projections to y in place, pulled towards what they were, in their dtype.

    `importance_T1`: square root of the tokens' weights in the sum of squared errors.
    """
    routes = mixture.route(x_TH)
    importance = torch.ones_like(y_TH[:, :1]) * importance_T1
    missing = (y_TH - mixture(x_TH)) * importance
    for _ in range(sweeps):
        for e, routed in enumerate(routes):
            if not len(routed.tokens):
                continue
            weights = routed.weights * importance[routed.tokens]
            expert = mixture.experts[e]
            read = mixture.activations(expert, x_TH[routed.tokens]) * weights
            gram = Gram.zeros(read.shape[1], y_TH.shape[1], read.device)
            gram.add(read, missing[routed.tokens])
            step = solve_ridge(gram.xx, gram.xy, relative=gram.ridge(TOWARDS_START)).float()
            moved = _add(expert.down.weight, step.T)
            missing.index_add_(0, routed.tokens, read @ moved.T, alpha=-1)


def _add(weight_HW: Tensor, step_HW: Tensor) -> Tensor:
    """Add a step in place; return the step that rounding to the weight's dtype leaves of it, so that others make up for it."""
    if weight_HW.dtype == step_HW.dtype:
        weight_HW += step_HW
        return step_HW
    before = weight_HW.float()
    weight_HW.copy_(before + step_HW)
    return weight_HW.float() - before


def refit_router(mixture: Mixture, x_TH: Tensor, y_TH: Tensor, steps: int = ROUTER_STEPS) -> Mixture:
    """Return the mixture with a router fitted to y, as far as it improves the outputs for tokens left out of the fit."""
    judges = unseen(x_TH)
    judging = x_TH[judges], y_TH[judges]
    least = mixture.error(*judging)
    for _ in range(steps):
        step_EH = _router_step(mixture, x_TH[~judges], y_TH[~judges])
        tried = [replace(mixture, router=mixture.router.float() + share * step_EH) for share in SHARES]
        best, place = min((other.error(*judging), place) for place, other in enumerate(tried))
        if best >= least:
            break
        mixture, least = tried[place], best
    return mixture


def _router_step(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Tensor:
    """Return the Gauss-Newton step of all rows [E, H], each fitted to what the rows before it leave.

    Experts are run twice: the outputs of all of them are as many numbers as K times y.
    """
    made = mixture(x_TH)
    missing = y_TH - made
    steps = []
    for e, routed in enumerate(mixture.route(x_TH)):
        tokens = routed.tokens
        slope_NH = routed.weights * (mixture.outputs(e, x_TH[tokens]) - made[tokens])
        square_N1 = slope_NH.square().sum(1, keepdim=True)
        root = square_N1.clamp_min(1e-30).sqrt()
        gram = Gram.zeros(x_TH.shape[1], 1, x_TH.device)
        gram.add(x_TH[tokens] * root, (slope_NH * missing[tokens]).sum(1, keepdim=True) / root)
        row = solve_ridge(gram.xx, gram.xy, relative=gram.ridge(ROUTER_RIDGE)).float()
        steps.append(row[:, 0])
        missing.index_add_(0, tokens, slope_NH * (x_TH[tokens] @ row), alpha=-1)
    return torch.stack(steps)


def refit(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Return the mixture with down projections, router and again down projections fitted to y."""
    return overwrite(owning_downs(mixture), x_TH, y_TH)


def overwrite(mixture: Mixture, x_TH: Tensor, y_TH: Tensor) -> Mixture:
    """Return what `refit` does. It has the down projections of `mixture`, which are overwritten."""
    overwrite_downs(mixture, x_TH, y_TH)
    fitted = refit_router(mixture, x_TH, y_TH)
    overwrite_downs(fitted, x_TH, y_TH)
    return fitted


def unseen(x_TH: Tensor) -> Tensor:
    """Return True for the tokens that judge a fit and are not fitted to, [T]."""
    return torch.arange(len(x_TH), device=x_TH.device) % UNSEEN == 0
