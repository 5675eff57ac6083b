"""An exponential moving average of the weights (EMA): less noisy than the last step's."""

from __future__ import annotations

import torch
from torch import nn

from puzzledsl.uptrain.shard import local


class Average:
    """`tensors`: the average of each weight, by name; sharded as the weights are.

    After update t (1, 2, …) it is d * average + (1 - d) * weight, where d = min(decay, t / (t + 10)): in a short
    run, the initial weights count little.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Update the average with the weights after `updates` optimiser steps, including this one."""
        share = 1 - min(self.decay, updates / (updates + 10))
        for name, weight in model.named_parameters():
            local(self.tensors[name]).lerp_(local(weight.detach()), share)

    @torch.no_grad()
    def exchange(self, model: nn.Module) -> None:
        """Exchange the values of model and average; a second call undoes it."""
        for name, weight in model.named_parameters():
            ours, theirs = local(weight.detach()), local(self.tensors[name])
            kept = ours.clone()
            ours.copy_(theirs)
            theirs.copy_(kept)
