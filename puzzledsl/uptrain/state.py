"""State of an unfinished training run: weights, moments of AdamW, random numbers, progress."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from puzzledsl.uptrain.ranks import Ranks
from puzzledsl.uptrain.store import Store

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
BETAS, EPSILON = (0.9, 0.95), 1e-8


def adamw(model: PreTrainedModel, peak: float) -> torch.optim.AdamW:
    """Return AdamW without weight decay."""
    return torch.optim.AdamW(
        model.parameters(), fused=True, lr=peak, betas=BETAS, eps=EPSILON, weight_decay=0.0
    )


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
    optimizer: torch.optim.AdamW
    ranks: Ranks

    def tensors(self) -> dict[str, Tensor]:
        """Return every present tensor under its name in the file."""
        found: dict[str, Tensor] = {}
        for name, weight in self.model.named_parameters():
            found[f"weight/{name}"] = weight.detach()
            for moment, value in self.optimizer.state.get(weight, {}).items():
                found[f"{moment}/{name}"] = value
        states = [torch.get_rng_state()]
        if torch.cuda.is_available():
            states.append(torch.cuda.get_rng_state())
        return found | {self._random_key: torch.cat(states)}

    def make_room(self, names: set[str]) -> None:
        """Allocate the optimiser moments that a file contains."""
        for name, weight in self.model.named_parameters():
            if f"step/{name}" in names:
                self.optimizer.state[weight] = {
                    "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                    "exp_avg": torch.zeros_like(weight.detach()),
                    "exp_avg_sq": torch.zeros_like(weight.detach()),
                }

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
