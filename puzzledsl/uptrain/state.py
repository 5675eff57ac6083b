"""State of an unfinished training run: weights, optimiser, random numbers, progress.

AdamW, with moments in float32 or in 8 bits a number (torchao: blocks of 256 numbers share a scale, arXiv 2110.02861).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from puzzledsl.models.families.access import layers
from puzzledsl.uptrain.ranks import Ranks, local
from puzzledsl.uptrain.store import Store

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
BETAS, EPSILON = (0.9, 0.95), 1e-8


def has_eight_bit() -> bool:
    """Return True if torchao, which keeps moments in 8 bits, is installed."""
    return importlib.util.find_spec("torchao") is not None


def adamw(model: PreTrainedModel, peak: float, *, eight_bit: bool = False) -> Optimizer | Mixed:
    """Return AdamW without weight decay; `eight_bit` needs torchao, and is for the weights of layers only.

    An embedding's rows have gradients now and then. Beside frequent rows in a block, their second moments would round to zero,
    and the next steps would divide by it.
    """
    settings: dict[str, Any] = {"lr": peak, "betas": BETAS, "eps": EPSILON, "weight_decay": 0.0}
    if not eight_bit:
        return torch.optim.AdamW(model.parameters(), fused=True, **settings)
    from torchao.optim import AdamW8bit

    inside = {id(weight) for weight in layers(model).parameters()}
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for weight in model.parameters():
        parts[id(weight) in inside].append(weight)
    return Mixed(torch.optim.AdamW(parts[False], fused=True, **settings), AdamW8bit(parts[True], **settings))


class Mixed:
    """Two optimisers that step together: one with moments in float32, one with moments of 8 bits."""

    def __init__(self, exact: Optimizer, small: Optimizer) -> None:
        self.exact, self.small = exact, small

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [*self.exact.param_groups, *self.small.param_groups]

    @property
    def state(self) -> Mapping[Tensor, Any]:
        """The states of both."""
        return {**self.exact.state, **self.small.state}

    def step(self) -> None:
        """Take a step."""
        self.exact.step()
        self.small.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        self.exact.zero_grad(set_to_none)
        self.small.zero_grad(set_to_none)


def set_rate(optimizer: Optimizer | Mixed, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):  # torchao compiles its step for a tensor
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def moments(optimizer: Optimizer | Mixed, weight: nn.Parameter, rank: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a weight's state by name; those of 8 bits are this process's, with its rank in the name."""
    for moment in MOMENTS if weight in optimizer.state else ():
        value = optimizer.state[weight][moment]
        part: Any = local(value)
        if hasattr(part, "codes"):
            yield f"{moment}.codes{rank}", part.codes
            yield f"{moment}.scale{rank}", part.scale
        else:
            yield moment, value


def make_moments(optimizer: Optimizer | Mixed, weights: Collection[nn.Parameter]) -> None:
    """Give the state of these weights its storage, without changing a weight."""
    match optimizer:
        case Mixed():
            held = {id(weight) for group in optimizer.exact.param_groups for weight in group["params"]}
            make_moments(optimizer.exact, [weight for weight in weights if id(weight) in held])
            make_moments(optimizer.small, [weight for weight in weights if id(weight) not in held])
        case torch.optim.AdamW():
            for weight in weights:
                optimizer.state[weight] = {
                    "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                    "exp_avg": torch.zeros_like(weight.detach()),
                    "exp_avg_sq": torch.zeros_like(weight.detach()),
                }
        case _:  # torchao's: a step of length 0
            for weight in weights:
                weight.grad = torch.zeros_like(weight)
            set_rate(optimizer, 0.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


STATE, BEST = "state", "best"


@dataclass(slots=True)
class TrainingProgress:
    """Progress of a training: steps done, and the held-out KL at each evaluation so far, by step."""

    step: int = 0
    heldout: dict[int, float] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """The step with the lowest held-out KL; the earliest of equals."""
        return min(self.heldout, key=lambda step: (self.heldout[step], step))


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All state that changes while training."""

    model: nn.Module
    optimizer: torch.optim.Optimizer | Mixed
    ranks: Ranks

    def tensors(self) -> dict[str, Tensor]:
        """Return every present tensor under its name in the file."""
        found: dict[str, Tensor] = {}
        for name, weight in self.model.named_parameters():
            found[f"weight/{name}"] = weight.detach()
            for moment, value in moments(self.optimizer, weight, self.ranks.rank):
                found[f"{moment}/{name}"] = value
        return found | {self._random_key: _random_state()}

    def make_room(self, names: set[str]) -> None:
        """Allocate the optimiser moments that a file contains."""
        named = self.model.named_parameters()
        make_moments(self.optimizer, [weight for name, weight in named if f"step/{name}" in names])

    @property
    def _random_key(self) -> str:
        return f"random/{self.ranks.rank}"

    def set_random(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state of the random numbers."""
        if self._random_key in tensors:
            state = tensors[self._random_key]
            size = torch.get_rng_state().numel()
            torch.set_rng_state(state[:size].clone())
            if torch.cuda.is_available() and state.numel() > size:
                torch.cuda.set_rng_state(state[size:].clone())


def save_state(store: Store, run: TrainingState, done: TrainingProgress) -> None:
    """Save everything that a run needs to resume exactly."""
    heldout = {str(step): kl for step, kl in done.heldout.items()}
    store.save(STATE, run.tensors(), {"step": str(done.step), "heldout": json.dumps(heldout)})


def load_state(store: Store, run: TrainingState) -> TrainingProgress | None:
    """Restore a saved run and return its progress; None, and nothing changed, if nothing is saved that fits the model."""
    found = store.contents(STATE)
    if found is None:
        return None
    names, notes = found
    if not {f"weight/{name}" for name, _ in run.model.named_parameters()} <= names:
        return None
    run.make_room(names)
    tensors = {name: value for name, value in run.tensors().items() if name in names}
    store.load(STATE, tensors)
    run.set_random(tensors)
    heldout = {int(step): kl for step, kl in json.loads(notes["heldout"]).items()}
    return TrainingProgress(int(notes["step"]), heldout)


def save_weights(store: Store, model: nn.Module) -> None:
    """Save the weights as the best so far."""
    store.save(BEST, {name: weight.detach() for name, weight in model.named_parameters()}, {})


def load_weights(store: Store, model: nn.Module) -> None:
    """Load the best weights."""
    store.load(BEST, {name: weight.detach() for name, weight in model.named_parameters()})


def _random_state() -> Tensor:
    """Return the state of the CPU's random numbers and, with a GPU, of this process's GPU; uint8."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return torch.cat(states)
