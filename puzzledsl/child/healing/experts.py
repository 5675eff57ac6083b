"""A mixture of experts as linear maps of what its experts' down projections read, so that healing fits them.

With fixed routing a mixture is linear in its down projections: y = sum_e [D_e b_e] [g_e a_e; g_e], where g_e is 0 for tokens
that do not use the expert. A shared expert is one that every token uses. `StackedExperts` makes one matrix of all, which is
fitted as any other last map. A mixture of too many channels for that is fitted expert by expert, for what the others leave
(`ExpertByExpert`, block Gauss-Seidel).

Shapes: B sequences, S positions, T tokens, N tokens of an expert, H hidden, W channels of an expert, P inputs of matrices, Q =
2 H.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.least_squares.grams import RIDGE, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import SHARED, Mixture, ModuleRules, Routed, expert_of, router_of

MOST_CHANNELS = 8192
"""Mixtures of more inputs in all are fitted expert by expert: the equations of all together would not fit into memory."""


class SplitMixture:
    """A mixture's module, split before the matrices [D_e b_e] of its experts; the last ones are shared experts'."""

    def __init__(self, module: nn.Module) -> None:
        weights = weights_of(module)
        self._mixture = Mixture.of(weights, router_of(module).top_k, ModuleRules(module))
        self._experts = {f"experts.{e}.": expert for e, expert in enumerate(self._mixture.experts)}
        if f"{SHARED}up_proj.weight" in weights:
            self._experts[SHARED] = expert_of(weights, SHARED)
        self._shared_gate_1H = weights.get("shared_expert_gate.weight")

    @property
    def sizes(self) -> list[int]:
        """Number of inputs of each matrix."""
        return [expert.width + (expert.down.bias is not None) for expert in self._experts.values()]

    def matrices(self) -> list[Tensor]:
        """Return copies of the matrices, [H, W] each, or [H, W + 1] where there are biases."""
        downs = [expert.down for expert in self._experts.values()]
        return [
            down.weight.clone() if down.bias is None else torch.cat([down.weight, down.bias[:, None]], 1)
            for down in downs
        ]

    def named(self, matrices_HP: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of each weight that such matrices hold, as views of them."""
        for (prefix, expert), matrix_HP in zip(self._experts.items(), matrices_HP, strict=True):
            yield f"{prefix}down_proj.weight", matrix_HP[:, : expert.width]
            if expert.down.bias is not None:
                yield f"{prefix}down_proj.bias", matrix_HP[:, -1]

    def read(self, x_TH: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each expert's tokens [N], and what its matrix reads for them, float32 [N, P]."""
        routes = [*self._mixture.route(x_TH), self._shared(x_TH)]
        for expert, routed in zip(self._experts.values(), routes, strict=False):
            read_NW = self._mixture.activations(expert, x_TH[routed.tokens]) * routed.weights
            biased = expert.down.bias is not None
            yield routed.tokens, torch.cat([read_NW, routed.weights], 1) if biased else read_NW

    def _shared(self, x_TH: Tensor) -> Routed:
        gate = self._shared_gate_1H
        weights_T1 = torch.ones_like(x_TH[:, :1]) if gate is None else (x_TH @ gate.float().T).sigmoid()
        return Routed(torch.arange(len(x_TH), device=x_TH.device), weights_T1)


class StackedExperts(nn.Module):
    """A mixture's module without its down projections. Their matrices are the columns of `down`, expert by expert."""

    def __init__(self, split: SplitMixture) -> None:
        super().__init__()
        self._split = split
        weight_HP = torch.cat(split.matrices(), 1)
        hidden, stacked = weight_HP.shape
        self.down = nn.Linear(stacked, hidden, bias=False, device="meta", dtype=weight_HP.dtype)
        self.down.weight = nn.Parameter(weight_HP, requires_grad=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return what the matrices of all experts read, [B, S, H] -> [B, S, P]; zero for experts that a token does not use."""
        x_TH = hidden_states.flatten(0, -2).float()
        read_TP = x_TH.new_zeros(len(x_TH), self.down.in_features)
        start = 0
        for size, (tokens, read_NP) in zip(self._split.sizes, self._split.read(x_TH), strict=True):
            read_TP[tokens, start : start + size] = read_NP
            start += size
        return read_TP.view(*hidden_states.shape[:-1], -1).to(hidden_states.dtype)

    def fitted(self) -> dict[str, Tensor]:
        """Return name and value of each weight in `down`, as views of it."""
        return dict(self._split.named(torch.split(self.down.weight, self._split.sizes, 1)))


class ExpertByExpert(nn.Module):
    """A mixture's module with copies of its experts' matrices; a last map that reads the mixture's own inputs."""

    def __init__(self, split: SplitMixture) -> None:
        super().__init__()
        self.split, self.matrices_HP = split, split.matrices()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return the mixture's outputs, [B, S, H] -> [B, S, H]."""
        return self.through(self.matrices_HP, hidden_states).to(hidden_states.dtype)

    def through(self, matrices_HP: Sequence[Tensor], hidden_states: Tensor) -> Tensor:
        """Return the outputs with other matrices, float32 [B, S, H] -> [B, S, H]."""
        x_TH = hidden_states.flatten(0, -2).float()
        total_TH = torch.zeros_like(x_TH)
        for matrix_HP, (tokens, read_NP) in zip(matrices_HP, self.split.read(x_TH), strict=True):
            total_TH.index_add_(0, tokens, read_NP @ matrix_HP.float().T)
        return total_TH.view(hidden_states.shape)

    def fitted(self) -> dict[str, Tensor]:
        """Return name and value of each weight in the matrices, as views of them."""
        return dict(self.split.named(self.matrices_HP))


def split_experts(module: nn.Module) -> StackedExperts | ExpertByExpert | None:
    """Return a mixture's module split before its down projections; None for other modules."""
    if not isinstance(getattr(module, "experts", None), nn.Module):
        return None
    split = SplitMixture(module)
    return StackedExperts(split) if sum(split.sizes) <= MOST_CHANNELS else ExpertByExpert(split)


SWEEPS = 5
"""Passes over the experts."""


def expert_steps(
    last: ExpertByExpert, x_TH: Tensor, weight_T1: Tensor, wanted_TQ: Tensor, ridge: float
) -> list[Tensor]:
    """Return the steps of all experts' matrices, float32 [Q, P] each; `ridge`: absolute, one for all.

    `weight_T1`: square root of the tokens' weights, which `wanted_TQ` has been multiplied by.
    """
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
            mean = max(float(gram.xx.diagonal().mean()), 1e-30)
            after = solve_ridge(gram.xx, gram.xy + gram.xx @ before, relative=ridge / mean)
            missing_TQ.index_add_(0, tokens, read_NP @ (after - before).float(), alpha=-1)
            steps_QP[e] = after.T.float()
    return steps_QP


def ridge_of(last: ExpertByExpert, x_TH: Tensor, weight_T1: Tensor, strength: float) -> float:
    """Return `strength` times the inputs that a token reads / tokens, relative to the mean square of all inputs.

    `Gram.ridge` counts all inputs. With those that are read, healed KL is 6 % lower on a small mixture with four of 16 experts a
    token (docs/science.md: half the width: 0.00695, beside 0.00742; 0.00679 at a quarter of it).
    """
    square, inputs, read = 0.0, 0, 0
    for tokens, read_NP in last.split.read(x_TH):
        square += float((read_NP * weight_T1[tokens]).square().sum(dtype=torch.float64))
        inputs += read_NP.shape[1]
        read += read_NP.numel()
    return max(RIDGE, strength * read / len(x_TH) ** 2) * square / inputs
