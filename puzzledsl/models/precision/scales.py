"""Training of the scales, and minima, of a quantised matrix's groups while its codes stay as they are.

A step changes the scale of a group, and its minimum, by the same share, and both are rounded to the 16 bits that are stored;
gradients pass the rounding unchanged (straight-through, Bengio et al., arXiv 1308.3432). So the matrix lies on its type's grid
at any time.

Shapes: R rows of C numbers in G groups.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.gptq import Codes, stored_codes, stored_pairs

WEIGHT = "weight"


class _Scaled(torch.autograd.Function):
    """Codes times stored scales, plus minima, differentiable in the scales' steps alone; codes are kept in eight bits."""

    @staticmethod
    def forward(
        ctx: Any, steps_RG: Tensor, codes: Tensor, scales_RG: Tensor, minima_RG: Tensor, precision: Precision
    ) -> Tensor:
        ctx.save_for_backward(codes, scales_RG, minima_RG)
        ctx.minimum = precision.minimum
        factors = 1 + steps_RG
        scales, minima = stored_pairs(scales_RG * factors, minima_RG * factors, precision)
        return Codes(codes.float(), scales, minima).values(codes.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        codes, scales_RG, minima_RG = ctx.saved_tensors
        products = (codes.float() * grads[0]).view(*scales_RG.shape, -1)
        found = products.sum(-1).mul_(scales_RG)
        if ctx.minimum:
            found += grads[0].reshape(products.shape).sum(-1) * minima_RG
        return found, None, None, None, None


class ScaleSteps(nn.Module):
    """A matrix of fixed codes as a function of steps, float32 (R, G): relative changes of its scales and minima."""

    def __init__(self, weight_RC: Tensor, precision: Precision) -> None:
        """Take a matrix on the type's grid. Raises ValueError for any other."""
        super().__init__()
        held = stored_codes(weight_RC, precision, "a quantised matrix")
        self._precision, self._columns = precision, weight_RC.shape[1]
        codes = held.codes.to(torch.int8) if precision.high else held.codes.to(torch.float8_e4m3fn)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", held.scales, persistent=False)
        self.register_buffer("minima", held.minima, persistent=False)

    def forward(self, steps_RG: Tensor) -> Tensor:
        """Return the matrix, float32 (R, C)."""
        apply: Any = _Scaled.apply
        whole: Tensor = apply(steps_RG, self.codes, self.scales, self.minima, self._precision)
        return whole[:, : self._columns]

    def right_inverse(self, weight_RC: Tensor) -> Tensor:
        """Return the steps that give the original matrix: zeros (R, G). PyTorch calls it on registration."""
        return torch.zeros_like(cast(Tensor, self.scales))


def train_scales(linear: nn.Module, precision: Precision) -> None:
    """Make the scales of a module's `weight`, which must be on the grid, trainable in its place, until `settle`."""
    if not parametrize.is_parametrized(linear, WEIGHT):
        held = ScaleSteps(cast(Tensor, linear.weight).detach(), precision)
        parametrize.register_parametrization(linear, WEIGHT, held)
        cast(nn.Parameter, steps_of(linear)).requires_grad_(True)


def steps_of(linear: nn.Module) -> Tensor | None:
    """Return the trainable steps (R, G) of a module's scales; None if they are not trained."""
    if not parametrize.is_parametrized(linear, WEIGHT):
        return None
    lists = cast(nn.ModuleDict, linear.parametrizations)
    return cast(Tensor, lists[WEIGHT].original)


def settle(model: nn.Module) -> None:
    """End `train_scales` in all modules of a model: each gets the weight that its scales now give, without gradients."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, WEIGHT):
            parametrize.remove_parametrizations(module, WEIGHT, leave_parametrized=True)
            cast(Tensor, module.weight).requires_grad_(False)
