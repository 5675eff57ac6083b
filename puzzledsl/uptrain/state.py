"""An unfinished training run as safetensors files: weights, optimiser, step. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from puzzledsl.files import replacing

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(slots=True)
class Standing:
    """How far training is: steps done, and the held-out KL at each evaluation so far, by step."""

    step: int = 0
    heldout: dict[int, float] = field(default_factory=dict)

    @property
    def best_step(self) -> int:
        """The step with the lowest held-out KL; the earliest of equals."""
        return min(self.heldout, key=lambda step: (self.heldout[step], step))


def save_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, standing: Standing) -> None:
    """Write everything a run needs to go on exactly as if it had not stopped, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        tensors[f"weight/{name}"] = weight.detach()
        for moment in MOMENTS if weight in optimizer.state else ():
            tensors[f"{moment}/{name}"] = optimizer.state[weight][moment]
    heldout = {str(step): kl for step, kl in standing.heldout.items()}
    _save(path, tensors, {"step": str(standing.step), "heldout": json.dumps(heldout)})


@torch.no_grad()
def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Standing | None:
    """Continue from a file. None, and nothing changed, when there is none or it does not fit the model."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            keys = set(file.keys())
            weights = dict(model.named_parameters())
            if not all(f"weight/{name}" in keys for name in weights):
                return None
            for name, weight in weights.items():
                weight.copy_(file.get_tensor(f"weight/{name}"))
                if f"step/{name}" in keys:
                    moments = {moment: file.get_tensor(f"{moment}/{name}") for moment in MOMENTS}
                    optimizer.state[weight] = {
                        moment: value.to(weight.device) for moment, value in moments.items()
                    }
    except (OSError, SafetensorError):
        return None
    heldout = {int(step): kl for step, kl in json.loads(metadata["heldout"]).items()}
    return Standing(int(metadata["step"]), heldout)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone, atomically."""
    _save(path, {name: weight.detach() for name, weight in model.named_parameters()}, {})


@torch.no_grad()
def load_weights(path: Path, model: nn.Module) -> None:
    """Read what `save_weights` wrote."""
    with safe_open(path, framework="pt") as file:
        for name, weight in model.named_parameters():
            weight.copy_(file.get_tensor(name))


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(path) as temporary:
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, temporary, metadata)
