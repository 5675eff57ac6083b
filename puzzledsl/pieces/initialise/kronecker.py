"""Curvature of a piece's squared error, as one Kronecker product per input (K-FAC, arXiv 1503.05671).

If y = W x is part of a module whose output z is fitted by least squares, the Gauss-Newton matrix of W is
approximately E[x x'] (x) E[g g'], with g = v' dz/dy for random v of unit variance. Its inverse maps the gradient of
all W to a direction in which one step reaches most of the optimum, independently of the scales of inputs and outputs.
Maps that read the same x (queries, keys and values; gate and up) form one W.

Shapes: P inputs and Q outputs of linear maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from puzzledsl.models.least_squares.grams import Gram

DAMPING = 0.5
"""Damping of each factor: added to its diagonal, relative to the diagonal's mean.

From 0.3 to 1 a small Llama's pieces are fitted equally well. With less, no step improves SmolLM2's attention, whose
inputs have a few channels with huge values.
"""
STACKED_OUTPUTS = 16384
"""Largest number of outputs of stacked maps; above it each map has a separate curvature, because inversion is cubic."""
B = TypeVar("B")
Seen = dict[int, tuple[Tensor, Tensor]]
"""Map index -> its input on a batch, and the probe's gradient at its output."""


@dataclass(frozen=True)
class Curvature:
    """The inverse curvature of the stacked maps `maps`: E[x x']^-1 (P, P) and E[g g']^-1 (Q, Q), float32."""

    maps: tuple[int, ...]
    inputs: Tensor
    outputs: Tensor


def curvatures(
    linears: Sequence[nn.Linear], run: Callable[[B], Tensor], batches: Iterable[B]
) -> list[Curvature]:
    """Return the curvature of linear maps inside `run`, from one forward and backward pass over the batches.

    `run` returns the fitted output, of any shape. Probes are seeded; the gradients of the weights are None
    afterwards.
    """
    seen: Seen = {}
    grams: dict[tuple[int, ...], tuple[Gram, Gram]] = {}
    hooks = [linear.register_forward_hook(_observer(at, seen)) for at, linear in enumerate(linears)]
    device = linears[0].weight.device
    generator = torch.Generator(device).manual_seed(0)
    try:
        for batch in batches:
            with torch.enable_grad():
                fitted = run(batch)
            probe = torch.randn(fitted.shape, generator=generator, device=device).to(fitted.dtype)
            torch.autograd.backward(fitted, probe)
            _count(seen, grams)
    finally:
        for hook in hooks:
            hook.remove()
        for linear in linears:
            linear.weight.grad = None
    return [Curvature(maps, _inverse(x), _inverse(g)) for maps, (x, g) in grams.items()]


def downhill(curvatures: Iterable[Curvature], gradient: Sequence[Tensor]) -> list[Tensor]:
    """Return minus the inverse curvature times the gradient, for each map (Q, P)."""
    found: dict[int, Tensor] = {}
    for curvature in curvatures:
        stacked = torch.cat([gradient[at] for at in curvature.maps])
        steps = (curvature.outputs @ stacked @ curvature.inputs).neg_()
        found |= zip(
            curvature.maps, torch.split(steps, [len(gradient[at]) for at in curvature.maps]), strict=True
        )
    return [found[at] for at in range(len(gradient))]


def _observer(at: int, seen: Seen) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def observe(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        def note(slope: Tensor) -> None:
            seen[at] = args[0], slope

        output.register_hook(note)  # type: ignore[no-untyped-call]

    return observe


def _count(seen: Seen, grams: dict[tuple[int, ...], tuple[Gram, Gram]]) -> None:
    for maps in _stacks(seen):
        x = seen[maps[0]][0]
        slopes = torch.cat([seen[at][1] for at in maps], -1)
        key = tuple(maps)
        if key not in grams:
            grams[key] = (
                Gram.zeros(x.shape[-1], 0, x.device),
                Gram.zeros(slopes.shape[-1], 0, x.device),
            )
        grams[key][0].add(x)
        grams[key][1].add(slopes)
    seen.clear()


def _stacks(seen: Seen) -> Iterable[list[int]]:
    """Yield the maps that read the same tensor: together if their outputs are at most STACKED_OUTPUTS, else one by one."""
    by_input: dict[int, list[int]] = {}
    for at in sorted(seen):
        by_input.setdefault(id(seen[at][0]), []).append(at)
    for maps in by_input.values():
        together = sum(seen[at][1].shape[-1] for at in maps) <= STACKED_OUTPUTS
        yield from [maps] if together else [[at] for at in maps]


def _inverse(gram: Gram) -> Tensor:
    mean = gram.xx / max(gram.tokens, 1)
    scale = mean.diagonal().mean().clamp_min(1e-30)
    damped = mean + DAMPING * scale * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).float()
