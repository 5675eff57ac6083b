"""A child as a chain of its sub-blocks without the no-ops, each split before its last linear map, which healing fits.

The stream of L layers has 2 L + 1 points: layer l's attention reads point 2 l and its FFN point 2 l + 1; the final norm reads
point 2 L. A child's sub-block reads its own point. Its output is read by the child's next sub-block, at a later point if the
ones between are dropped. This point is the sub-block's `goal`: there the child's stream should equal the parent's.
A sub-block without a last map is not fitted.

With fixed routing a mixture is linear in its down projections: y = sum_e [D_e b_e] [g_e a_e; g_e], where g_e is 0 for tokens
that do not use the expert. A shared expert is one that every token uses. `StackedExperts` makes one matrix of all, which is
fitted as any other last map. A mixture of too many channels for that is fitted expert by expert, for what the others leave
(`ExpertByExpert`, block Gauss-Seidel).

Shapes: B sequences, S positions, T tokens, N tokens of an expert, H hidden, W channels of an expert, P inputs of the last map or
of matrices (the H outputs without one), Q = 2 H.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.alternatives.precision import PRECISIONS, Precision
from puzzledsl.child.checkpoint.contents import Chosen, Pieces, chosen_in
from puzzledsl.ir.tables import LayerDefinition
from puzzledsl.models.families import access
from puzzledsl.models.families.slots import load_module_weights, weights_of
from puzzledsl.models.kernels.products import fast_products, repeatable
from puzzledsl.models.least_squares.grams import RIDGE, Gram, solve_ridge
from puzzledsl.models.mixtures.experts import SHARED, Mixture, ModuleRules, Routed, expert_of, router_of

Absent = AbstractSet[tuple[int, SubBlock]]
"""Sub-blocks that layers of the parent do not have, as (layer, sub-block)."""


@dataclass(frozen=True, slots=True)
class Link(Chosen):
    """One sub-block of a child that is not a no-op."""

    goal: int
    adjacent: bool
    """True if the child has not dropped the sub-block that comes next in the parent."""

    @property
    def intact(self) -> bool:
        """True for a sub-block of the parent's if the child has not dropped the one after it."""
        return self.alternative.is_parent and self.adjacent

    @property
    def point(self) -> int:
        """Number of the point of the stream that the sub-block reads."""
        return point_of(self.layer_idx, self.sub_block)


def point_of(layer_idx: int, sub_block: SubBlock) -> int:
    """Return the number of the point of the stream that a sub-block reads."""
    return 2 * layer_idx + (sub_block == "ffn")


def points(layers: int, absent: Absent = frozenset()) -> tuple[int, ...]:
    """Return the points of the stream that the parent's sub-blocks read, in order, and the one that the final norm reads."""
    places: list[tuple[int, SubBlock]] = [(index, part) for index in range(layers) for part in SUB_BLOCKS]
    return (*(point_of(*place) for place in places if place not in absent), 2 * layers)


def chain(layers: Sequence[LayerDefinition], absent: Absent = frozenset()) -> tuple[Link, ...]:
    """Return the sub-blocks of a child in order, without its no-ops and without those that the parent does not have."""
    after = dict(pairwise(points(len(layers), absent)))
    links: list[Link] = []
    goal = 2 * len(layers)
    for layer_idx in reversed(range(len(layers))):
        for chosen in reversed(chosen_in(layer_idx, layers[layer_idx])):
            if not chosen.alternative.removes and (layer_idx, chosen.sub_block) not in absent:
                point = point_of(layer_idx, chosen.sub_block)
                place = (layer_idx, chosen.sub_block, chosen.alternative, chosen.piece)
                links.append(Link(*place, goal, goal == after[point]))
                goal = point
    return tuple(reversed(links))


def first_changed(links: Sequence[Link], of_parent: Sequence[int]) -> int:
    """Return the number of intact links at the start of a chain; `of_parent`: the `points` of the parent's sub-blocks.

    It is also the index of the last of these points up to which the child's stream equals the parent's.
    """
    agree = (link.intact and link.point == point for link, point in zip(links, of_parent, strict=False))
    return next((index for index, intact in enumerate(agree) if not intact), len(links))


MOST_CHANNELS = 8192
"""Most inputs of all experts together that are fitted as one map; equations of more would not fit into memory."""


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
        """Yield name and value of each weight in `matrices_HP`, which are as `matrices` returns them; the values are views."""
        for (prefix, expert), matrix_HP in zip(self._experts.items(), matrices_HP, strict=True):
            yield f"{prefix}down_proj.weight", matrix_HP[:, : expert.width]
            if expert.down.bias is not None:
                yield f"{prefix}down_proj.bias", matrix_HP[:, -1]

    def read(self, x_TH: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each expert the indices of its tokens [N], and what its matrix reads for them, float32 [N, P]."""
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
    """Return the absolute ridge: max(RIDGE, `strength` * inputs that a token reads / tokens) * mean of the Grams' diagonals.

    `Gram.ridge` counts all inputs. With those that are read, healed KL is 6 % lower on a small mixture with four of 16 experts a
    token (docs/science.md: half the width: 0.00695, beside 0.00742; 0.00679 at a quarter of it).
    """
    square, inputs, read = 0.0, 0, 0
    for tokens, read_NP in last.split.read(x_TH):
        square += float((read_NP * weight_T1[tokens]).square().sum(dtype=torch.float64))
        inputs += read_NP.shape[1]
        read += read_NP.numel()
    return max(RIDGE, strength * read / len(x_TH) ** 2) * square / inputs


@dataclass(frozen=True, slots=True)
class Grid:
    """Storage type of a quantised sub-block, and its last map on the grid, float32 [H, P], which the module's dtype may round."""

    precision: Precision
    weight: Tensor


class ChildSubBlock:
    """A sub-block of a child with its own copy of the last map. The parent's modules are not changed."""

    def __init__(self, model: PreTrainedModel, link: Link, pieces: Pieces) -> None:
        """Build the module of `link.alternative`. Raises DiagnosticError if its piece is missing or does not fit."""
        layer = access.layers(model)[link.layer_idx]
        self.link = link
        self._norm = access.norm_before(layer, link.sub_block)
        self._behind = access.norm_behind(layer, link.sub_block)
        self._factor = access.residual_factor(layer)
        if link.alternative.keeps_weights:
            load_module_weights(access.sub_block_of(layer, link.sub_block))
        self._module, pieces_weights = link.module(model, layer, pieces)
        if link.alternative.keeps_weights:
            self._module.__dict__.pop("forward", None)  # a fused one applies the last map
        self.name, last = access.last_map(self._module, link.alternative)
        self.last: nn.Linear | ExpertByExpert | None = None
        """The last map; None for a sub-block without one, and for a quantised mixture, whose experts are not fitted."""
        self.grid: Grid | None = None
        if last is not None:
            self.last = _copied(last)
            if link.alternative.dtype is not None:
                weight = pieces_weights[f"{self.name}.weight"].to(last.weight.device)
                self.grid = Grid(PRECISIONS[link.alternative.dtype], weight.float())
            setattr(self._module, self.name, nn.Identity())
        elif link.alternative.dtype is None and isinstance(getattr(self._module, "experts", None), nn.Module):
            split = SplitMixture(self._module)
            if sum(split.sizes) <= MOST_CHANNELS:
                self._module = stacked = StackedExperts(split)
                self.last = stacked.down
            else:
                self._module, self.last = nn.Identity(), ExpertByExpert(split)
        self.channels_H = self._channels(model)
        """Factor of each channel between the last map's output and what is added; None: 1."""

    def fitted(self) -> dict[str, Tensor]:
        """Return the weights that a fit changes, by their names inside the sub-block; the values are views."""
        for experts in (self._module, self.last):
            if isinstance(experts, StackedExperts | ExpertByExpert):
                return experts.fitted()
        if self.grid is not None:
            return {f"{self.name}.weight": self.grid.weight}
        return {f"{self.name}.weight": self.last.weight} if isinstance(self.last, nn.Linear) else {}

    def load_fitted(self, weights: Mapping[str, Tensor]) -> None:
        """Set the fitted weights, from values by the names that `fitted` gives them."""
        if self.grid is not None:
            self.put_on_grid(weights[f"{self.name}.weight"])
            return
        for name, weight in self.fitted().items():
            weight.copy_(weights[name])

    def put_on_grid(self, weight_HP: Tensor) -> None:
        """Set the last map of a quantised sub-block to weights on its grid."""
        assert self.grid is not None and isinstance(self.last, nn.Linear)
        self.grid = replace(self.grid, weight=weight_HP.to(self.grid.weight))
        self.last.weight.copy_(weight_HP)

    def last_input(self, stream_BSH: Tensor, attention_kwargs: dict[str, Any]) -> Tensor:
        """Return the input of the last map, [B, S, H] -> [B, S, P]."""
        with repeatable(stream_BSH.device), fast_products(stream_BSH.device):
            normed = self._norm(stream_BSH)
            if self.link.sub_block == "attention":
                output = self._module(hidden_states=normed, **attention_kwargs)
            else:
                output = self._module(normed)
        return cast(Tensor, output[0] if isinstance(output, tuple) else output)

    def added(self, read_BSP: Tensor) -> Tensor:
        """Return what is added to the stream, from the result of `last_input`: [B, S, P] -> [B, S, H]."""
        output = self._output(read_BSP)
        if self._behind is not None:
            output = cast(Tensor, self._behind(output))
        return output if self._factor == 1 else output * self._factor

    def scale(self, read_BSP: Tensor) -> Tensor | float:
        """Return the factor of each token between the last map's output and what is added, [B, S, 1]; 1 without a norm behind."""
        if self._behind is None:
            return 1.0
        mean = self._output(read_BSP).float().square().mean(-1, keepdim=True)
        return mean.clamp_min(torch.finfo(torch.float32).tiny).rsqrt()

    def _output(self, read_BSP: Tensor) -> Tensor:
        if self.last is None:
            return read_BSP
        with fast_products(read_BSP.device):
            return cast(Tensor, self.last(read_BSP))

    def _channels(self, model: PreTrainedModel) -> Tensor | None:
        if self._behind is None:
            return None if self._factor == 1 else torch.tensor(self._factor, device=model.device)
        ones_H = torch.ones(cast(Any, model.config).hidden_size, dtype=model.dtype, device=model.device)
        return cast(Tensor, self._behind(ones_H)).float() * self._factor


def _copied(linear: nn.Linear) -> nn.Linear:
    """Return a plain nn.Linear with copies of the weights, without the hooks of a paged parent."""
    weight, has_bias = linear.weight, cast(Tensor | None, linear.bias) is not None
    copied = nn.Linear(linear.in_features, linear.out_features, has_bias, device="meta", dtype=weight.dtype)
    copied = copied.to_empty(device=weight.device).requires_grad_(False)
    copied.load_state_dict(linear.state_dict())
    return copied
