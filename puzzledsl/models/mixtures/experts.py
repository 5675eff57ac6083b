"""A mixture of experts as plain tensors, one expert at a time, with the rules that transformers' modules apply.

A dense FFN in its place is one expert for all tokens, with the channels of all experts that contribute most: those of the
largest mean g |a_c| ||D_c|| form a pool, from which elimination on the mixture's outputs chooses.

Shapes: T tokens, N tokens of an expert, H hidden, E experts, K experts of a token, W channels of an expert, P channels in a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from puzzledsl.base.frozen import Record
from puzzledsl.models.least_squares.grams import Gram, fitted_channels
from puzzledsl.models.transformers_private import apply_gate


def router_of(block: nn.Module) -> Any:
    """Return the router of a mixture's module."""
    return getattr(block, "gate", None) or cast(Any, block).router


class ModuleRules(Record):
    """Rules of a mixture's module: activation between its linear maps, and routing. Weights of the module are not used."""

    block: Any

    def activate(self, gate_NW: Tensor | None, up_NW: Tensor) -> Tensor:
        """Return the input of the down projection [N, W]; `gate_NW` is None where experts have no gate."""
        experts = self.block.experts
        if gate_NW is None:
            return cast(Tensor, experts.act_fn(up_NW))
        both = (gate_NW, up_NW)
        joined = torch.cat(both, -1) if experts.is_concatenated else torch.stack(both, -1).flatten(-2)
        return apply_gate(experts, joined)

    def route(self, logits_TE: Tensor, bias_E: Tensor | None, top_k: int) -> tuple[Tensor, Tensor]:
        """Return the router's weights of each token's K experts and these experts' indices, [T, K] each.

        The module scores by softmax, where `bias_E` is added to the logits, or by sigmoid, where the bias is used to rank alone.
        """
        router = router_of(self.block)
        if hasattr(router, "routed_scaling_factor"):
            scores_TE = logits_TE.sigmoid()
            ranked = scores_TE if bias_E is None else scores_TE + bias_E.float()
            numbers_TK = torch.topk(ranked, top_k, dim=-1, sorted=False).indices
            weights_TK = scores_TE.gather(1, numbers_TK)
            if router.norm_topk_prob:
                weights_TK = weights_TK / (weights_TK.sum(-1, keepdim=True) + 1e-20)
            return weights_TK * router.routed_scaling_factor, numbers_TK
        if bias_E is not None:
            logits_TE = logits_TE + bias_E.float()
        weights_TK, numbers_TK = torch.topk(logits_TE.softmax(-1), top_k, dim=-1)
        if getattr(router, "norm_topk_prob", True):
            weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
        return weights_TK, numbers_TK


State = dict[str, Tensor]  # weights by their canonical names inside the sub-block
SHARED = "shared_expert."  # start of the names of a shared expert's weights


class Linear(Record):
    """A linear map: weight [Q, P] and bias [Q] in any dtype."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x_NP: Tensor) -> Tensor:
        """Apply it in float32."""
        y_NQ = x_NP @ self.weight.float().T
        return y_NQ if self.bias is None else y_NQ + self.bias.float()

    def rows(self, kept: Tensor) -> Linear:
        """Return the map with the outputs `kept` (indices) alone."""
        return Linear(self.weight[kept], None if self.bias is None else self.bias[kept])


class Expert(Record):
    """One expert: gate and up [W, H], down [H, W]; `gate` is None where experts have no gate."""

    gate: Linear | None
    up: Linear
    down: Linear

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.up.weight)

    @property
    def channel_bytes(self) -> int:
        """Bytes of the weights of one channel."""
        return (3 if self.gate else 2) * self.up.weight.shape[1] * self.up.weight.element_size()

    def channels(self, kept: Tensor) -> Expert:
        """Return the expert with the channels `kept` (indices) alone."""
        gate = None if self.gate is None else self.gate.rows(kept)
        return Expert(gate, self.up.rows(kept), replace(self.down, weight=self.down.weight[:, kept]))

    def room(self, width: int) -> Expert:
        """Return memory for an expert of `width` channels, to `put` one in: taken before fits, it does not fragment memory."""
        made = self.channels(torch.arange(width, device=self.up.weight.device))
        bias = None if self.down.bias is None else self.down.bias.clone()
        return replace(made, down=replace(made.down, bias=bias))

    def put(self, expert: Expert) -> None:
        """Copy an expert of the same size into this one's memory."""
        fitted = expert.state("")
        for name, weight in self.state("").items():
            if weight is not fitted[name]:
                weight.copy_(fitted[name])

    def state(self, prefix: str) -> State:
        """Return the weights by their canonical names."""
        found: State = {}
        for part, linear in (("gate", self.gate), ("up", self.up), ("down", self.down)):
            if linear is not None:
                found[f"{prefix}{part}_proj.weight"] = linear.weight
                if linear.bias is not None:
                    found[f"{prefix}{part}_proj.bias"] = linear.bias
        return found

    def with_down(self, weight_HW: Tensor) -> Expert:
        """Return the expert with another down projection, rounded to the dtype it had; its bias stays."""
        weight = weight_HW.to(self.down.weight.dtype).contiguous()
        return replace(self, down=replace(self.down, weight=weight))


class Routed(Record):
    """Tokens of one expert: their places in the batch [N], and the router's weights of the expert for them [N, 1]."""

    tokens: Tensor
    weights: Tensor


class Experts(Sequence[Expert]):
    """Experts that are read whenever they are looked up, so that few of a large mixture's are in memory together."""

    def __init__(self, read: Callable[[int], Expert], numbers: Sequence[int]) -> None:
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._read(self._numbers[index])


class Mixture(Record):
    """A router and its experts. Shared experts are not part of it: they see every token and stay as they are.

    `bias`: one number an expert, which the family's rule adds to the logits or to what it ranks experts by.
    """

    router: Tensor
    bias: Tensor | None
    experts: Sequence[Expert]
    top_k: int
    rules: ModuleRules

    @classmethod
    def of(cls, state: Mapping[str, Tensor], top_k: int, rules: ModuleRules) -> Self:
        """Return the mixture of a sub-block's weights, without copying them. Each expert is looked up when it is needed."""
        router = state["gate.weight"]
        experts = Experts(lambda e: expert_of(state, f"experts.{e}."), range(len(router)))
        return cls(router, state.get("gate.bias"), experts, top_k, rules)

    def state(self) -> State:
        """Return the weights by their canonical names."""
        found = {"gate.weight": self.router}
        if self.bias is not None:
            found["gate.bias"] = self.bias
        for e, expert in enumerate(self.experts):
            found |= expert.state(f"experts.{e}.")
        return found

    def only(self, kept: Sequence[int]) -> Mixture:
        """Return the mixture of some of the experts, in this order; `top_k` falls to their number if it is larger."""
        return replace(
            self,
            router=self.router[list(kept)],
            bias=None if self.bias is None else self.bias[list(kept)],
            experts=Experts(self.experts.__getitem__, kept),
            top_k=min(self.top_k, len(kept)),
        )

    def logits(self, x_TH: Tensor) -> Tensor:
        """Return the router's logits without its bias, float32 [T, E]."""
        return x_TH @ self.router.float().T

    def weights(self, x_TH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the router's weights of each token's K experts and these experts' indices, [T, K] each."""
        return self.rules.route(self.logits(x_TH), self.bias, self.top_k)

    def route(self, x_TH: Tensor) -> list[Routed]:
        """Return for each expert the tokens that the router sends to it."""
        weights_TK, numbers_TK = self.weights(x_TH)
        found = []
        for e in range(len(self.experts)):
            tokens, places = (numbers_TK == e).nonzero(as_tuple=True)
            found.append(Routed(tokens, weights_TK[tokens, places, None]))
        return found

    def activations(self, expert: Expert, x_NH: Tensor) -> Tensor:
        """Return the inputs of an expert's down projection, float32 [N, W]."""
        return self.rules.activate(None if expert.gate is None else expert.gate(x_NH), expert.up(x_NH))

    def outputs(self, e: int, x_NH: Tensor) -> Tensor:
        """Return an expert's outputs without the router's weights, float32 [N, H]."""
        expert = self.experts[e]
        return expert.down(self.activations(expert, x_NH))

    def parts(self, x_TH: Tensor) -> Iterator[tuple[Routed, Tensor]]:
        """Yield each expert's tokens and its outputs for them, times the router's weights."""
        for e, routed in enumerate(self.route(x_TH)):
            yield routed, self.outputs(e, x_TH[routed.tokens]) * routed.weights

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return the mixture's outputs, float32 [T, H]."""
        total = torch.zeros_like(x_TH, dtype=torch.float32)
        for routed, output in self.parts(x_TH):
            total.index_add_(0, routed.tokens, output)
        return total

    def error(self, x_TH: Tensor, y_TH: Tensor) -> float:
        """Return ||mixture(x) - y||^2."""
        return float((self(x_TH) - y_TH).square().sum(dtype=torch.float64))


def expert_of(state: Mapping[str, Tensor], prefix: str) -> Expert:
    """Return the expert whose weights' names start with `prefix`, without copying them."""

    def linear(part: str) -> Linear:
        return Linear(state[f"{prefix}{part}_proj.weight"], state.get(f"{prefix}{part}_proj.bias"))

    gate = linear("gate") if f"{prefix}gate_proj.weight" in state else None
    return Expert(gate, linear("up"), linear("down"))


def owning_downs(mixture: Mixture) -> Mixture:
    """Return the mixture with copies of its down projections, which fits may overwrite."""
    return replace(mixture, experts=[each.with_down(each.down.weight.clone()) for each in mixture.experts])


def stacked(experts: Sequence[Expert]) -> Expert:
    """Return one expert with the channels of all; the bias of its outputs is the first one's."""
    gates = [expert.gate for expert in experts if expert.gate is not None]
    down = torch.cat([expert.down.weight for expert in experts], 1)
    wide = Expert(_joined(gates) if gates else None, _joined([e.up for e in experts]), experts[0].down)
    return wide.with_down(down)


def _joined(maps: Sequence[Linear]) -> Linear:
    biases = [linear.bias for linear in maps if linear.bias is not None]
    return Linear(torch.cat([linear.weight for linear in maps]), torch.cat(biases) if biases else None)


POOL = 2  # channels in the pool for each one that is kept


def dense(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, y_TH: Tensor, width: int) -> Expert:
    """Return a dense FFN of `width` channels fitted to y, from the experts' channels and those of the `shared` experts."""
    wide, down_PH, bias = _pool(mixture, shared, x_TH, POOL * width)
    gram = Gram.zeros(len(down_PH), y_TH.shape[1], x_TH.device)
    gram.add(mixture.activations(wide, x_TH), y_TH - bias)
    kept, fitted_PH = fitted_channels(gram, down_PH, width)
    return _of_pool(wide.channels(kept), fitted_PH, bias)


def contributing(mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, width: int) -> Expert:
    """Return the FFN of the `width` channels that contribute most, with the mixture's weights; nothing is fitted."""
    return _of_pool(*_pool(mixture, shared, x_TH, width))


def _of_pool(made: Expert, down_PH: Tensor, bias: Tensor) -> Expert:
    made = made.with_down(down_PH.T.float())
    return made if made.down.bias is None else replace(made, down=replace(made.down, bias=bias))


def _pool(
    mixture: Mixture, shared: Sequence[Expert], x_TH: Tensor, channels: int
) -> tuple[Expert, Tensor, Tensor]:
    """Return the P channels that contribute most, all of shared experts before others, as one expert, with two tensors.

    These are its down projection [P, H], float64, and the bias of its outputs [H] or a scalar 0. Each expert's part of both is
    multiplied by the mean of the router's weight over all tokens, 1 for a shared expert.
    """
    shares, usage = [], []
    for expert, routed in zip(mixture.experts, mixture.route(x_TH), strict=True):
        read = mixture.activations(expert, x_TH[routed.tokens]).abs() * routed.weights
        usage.append(read.sum(0) * expert.down.weight.float().norm(dim=0))
        shares.append(float(routed.weights.sum()) / len(x_TH))
    for expert in shared:
        usage.append(torch.full((expert.width,), torch.inf, device=x_TH.device))
        shares.append(1.0)
    used = torch.cat(usage)
    some = used.topk(min(channels, len(used))).indices.sort().values
    parts, first = [], 0
    for expert in chain(mixture.experts, shared):
        last = first + expert.width
        parts.append(expert.channels(some[(some >= first) & (some < last)] - first))
        first = last
    wide = stacked(parts)  # of the pool's channels alone: all experts side by side are as large as the layer
    downs = [part.down.weight.double().T * share for part, share in zip(parts, shares, strict=True)]
    return wide, torch.cat(downs), _bias(parts, shares)


def _bias(experts: Sequence[Expert], shares: Sequence[float]) -> Tensor:
    """Return the mean over all tokens of what the biases of the experts' outputs add; a scalar 0 without biases."""
    pairs = zip(experts, shares, strict=True)
    added = [share * expert.down.bias.float() for expert, share in pairs if expert.down.bias is not None]
    return torch.stack(added).sum(0) if added else torch.zeros((), device=experts[0].down.weight.device)
