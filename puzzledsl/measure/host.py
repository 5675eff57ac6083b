"""A parent model whose sub-blocks can be exchanged, in which every alternative is timed.

Each layer holds a module of its own, so that weights are as cold as in the model that is being predicted: by the time
a layer runs again, every other layer's weights have gone through the caches.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.ir.nodes import Space
from puzzledsl.models.alternatives.build import build_alternative
from puzzledsl.models.families.access import give_back, held_by, layers
from puzzledsl.models.replace import number_cache_slots, put

SUB_BLOCKS: tuple[SubBlock, SubBlock] = ("attention", "ffn")
PARENT = "parent"

Arrangement = dict[SubBlock, tuple[str, ...]]
"""For each sub-block, the name of every layer's alternative."""


class Host:
    """A parent whose layers can be rearranged, and a growing pool of alternatives with random weights.

    Run times do not depend on the values of weights; all layers of a parent have the same shape.
    """

    def __init__(
        self, model: PreTrainedModel, alternatives: Mapping[SubBlock, Mapping[str, Alternative]]
    ) -> None:
        self.model = model
        self.alternatives = alternatives
        self._pool: dict[tuple[SubBlock, str, int], nn.Module] = {}
        self._own = [{s: held_by(layer, s) for s in SUB_BLOCKS} for layer in layers(model)]

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self._own)

    def arrange(self, arrangement: Arrangement) -> None:
        """Give every layer the named alternatives; `parent` is the layer's own module."""
        for layer_idx, layer in enumerate(layers(self.model)):
            for sub_block in SUB_BLOCKS:
                give_back(layer, self._own[layer_idx][sub_block])
        for sub_block in SUB_BLOCKS:
            used: Counter[str] = Counter()
            for layer_idx, name in enumerate(arrangement[sub_block]):
                if name != PARENT:
                    put(self.model, layer_idx, sub_block, self._take(sub_block, name, used[name]))
                    used[name] += 1
        number_cache_slots(self.model)

    def _take(self, sub_block: SubBlock, name: str, index: int) -> nn.Module:
        key = (sub_block, name, index)
        if key not in self._pool:
            module = build_alternative(self.model, 0, self.alternatives[sub_block][name])
            self._pool[key] = _with_values(module)
        return self._pool[key]

    def parent(self) -> Arrangement:
        """The parent itself."""
        return dict.fromkeys(SUB_BLOCKS, (PARENT,) * self.depth)


@torch.no_grad()
def _with_values(module: nn.Module) -> nn.Module:
    """Fill the weights with ordinary values: fresh memory may hold subnormal numbers, which are slow, or infinities."""
    for weight in module.parameters():
        if weight.ndim > 1:
            weight.normal_(0, 0.02)
        else:
            weight.fill_(1)
    return module.requires_grad_(False)


def alternatives_of(space: Space) -> dict[SubBlock, dict[str, Alternative]]:
    """Every distinct alternative of any layer by canonical name, the parent's own first."""
    from puzzledsl.alternatives.parent import PARENTS

    found: dict[SubBlock, dict[str, Alternative]] = {part: {PARENT: own} for part, own in PARENTS.items()}
    for layer in space.layers:
        found["attention"] |= {a.name: a for a in layer.attention}
        found["ffn"] |= {a.name: a for a in layer.ffn}
    return found


def balanced(names: Mapping[SubBlock, Sequence[str]], depth: int, seed: int) -> Arrangement:
    """Return an arrangement with every alternative equally often, in random layers.

    With more alternatives than layers, consecutive seeds take turns: `seed` shifts which alternatives are used.
    """
    shuffle = random.Random(seed)

    def one(choices: Sequence[str]) -> tuple[str, ...]:
        picked = [choices[(seed * depth + i) % len(choices)] for i in range(depth)]
        shuffle.shuffle(picked)
        return tuple(picked)

    return {sub_block: one(names[sub_block]) for sub_block in SUB_BLOCKS}


def random_child(space: Space, seed: int) -> Arrangement:
    """Return a random child: a random share of its layers, few or many, differs from the parent."""
    dice = random.Random(seed)
    keep = dice.uniform(0, 0.8)

    def pick(choices: Sequence[Alternative]) -> str:
        return PARENT if dice.random() < keep else dice.choice(choices).name

    return {
        "attention": tuple(pick(cast(Sequence[Alternative], layer.attention)) for layer in space.layers),
        "ffn": tuple(pick(cast(Sequence[Alternative], layer.ffn)) for layer in space.layers),
    }
