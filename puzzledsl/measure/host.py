"""A parent model whose sub-blocks can be exchanged, in which every alternative is timed.

Each layer holds a module of its own, so that weights are as cold as in the model that is being predicted: by the time
a layer runs again, every other layer's weights have gone through the caches.

Where layers differ, an alternative is timed in each kind of layer by itself. Labels tell them apart: `noop` is the no-op
in a layer like the first one, `noop@1` in a layer of the second kind.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.precision import KV
from puzzledsl.ir.nodes import Shape, Space
from puzzledsl.ir.tables import PARENT_ENDS
from puzzledsl.models.alternatives.realisation import build_alternative
from puzzledsl.models.families.access import give_back, held_by, layers, shape_of
from puzzledsl.models.families.build import number_cache_slots, put
from puzzledsl.models.families.slots import share_weights

PARENT = "parent"

Part = SubBlock | Literal["ends"]
Arrangement = dict[Part, tuple[str, ...]]
"""For each sub-block, the label of every layer's alternative; `ends`: one name for embedding and head, if there is a choice."""
Key = tuple[Part | None, str]
"""(sub-block, label of an alternative), ("ends", name of a choice of both), or (None, "fixed") for what no choice changes."""


def label(name: str, kind: int) -> str:
    """Return the label of an alternative in a kind of layer."""
    return f"{name}@{kind}" if kind else name


def kind_of(label: str) -> int:
    """Return the kind of layer that a label is about. Names of alternatives may hold an `@` too: `parent@q8_0@1`."""
    kind = label.rpartition("@")[2]
    return int(kind) if kind.isdigit() else 0


def storage_type(label: str) -> str:
    """Return the storage type in a label, such as `q8_0` in `parent@q8_0@1`; empty if it names none (the parent's type)."""
    return next((part for part in label.split("@")[1:] if not part.isdigit() and not part.startswith(KV)), "")


def parent_beside(other: str) -> str:
    """Return the label of the parent's sub-block in the kind of layer of another label."""
    return label(PARENT, kind_of(other))


class Host:
    """A parent whose layers can be rearranged, and a growing pool of alternatives with random weights.

    Run times do not depend on the values of weights. `alternatives` are by label, as `alternatives_of` returns them. Once the
    pool holds `pool_bytes` (None: no limit), further modules of an alternative share the weights of its earlier ones.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        alternatives: Mapping[SubBlock, Mapping[str, Alternative]],
        pool_bytes: int | None = None,
    ) -> None:
        self.model, self.alternatives = model, alternatives
        self.kinds = shape_of(model.config).kind_of_each
        self._pool: dict[tuple[SubBlock, str, int], nn.Module] = {}
        self._pool_bytes, self._room_bytes = 0, pool_bytes
        self._with_weights: Counter[tuple[SubBlock, str]] = Counter()
        self._own = [{s: held_by(layer, s) for s in SUB_BLOCKS} for layer in layers(model)]

    def arrange(self, arrangement: Arrangement) -> None:
        """Give every layer the alternatives of these labels; `parent` is the layer's own module."""
        for layer_idx, layer in enumerate(layers(self.model)):
            for sub_block in SUB_BLOCKS:
                give_back(layer, self._own[layer_idx][sub_block])
        for sub_block in SUB_BLOCKS:
            used: Counter[str] = Counter()
            for layer_idx, name in enumerate(arrangement[sub_block]):
                if name != parent_beside(name):
                    put(self.model, layer_idx, sub_block, self._take(sub_block, name, used[name]))
                    used[name] += 1
        number_cache_slots(self.model)

    def _take(self, sub_block: SubBlock, name: str, index: int) -> nn.Module:
        key = (sub_block, name, index)
        if key not in self._pool:
            alike = self.kinds.index(kind_of(name))
            module = build_alternative(self.model, alike, self.alternatives[sub_block][name])
            new_bytes = sum(weight.nbytes for weight in module.parameters())
            kept = self._with_weights[sub_block, name]
            full = self._room_bytes is not None and self._pool_bytes + new_bytes > self._room_bytes
            if full and kept:
                share_weights(module, self._pool[sub_block, name, index % kept])
            else:
                _with_values(module)
                self._with_weights[sub_block, name] += 1
                self._pool_bytes += new_bytes
            self._pool[key] = module.requires_grad_(False)
        return self._pool[key]

    def parent(self) -> Arrangement:
        """Return the arrangement in which every layer has the parent's own sub-blocks."""
        return dict.fromkeys(SUB_BLOCKS, tuple(label(PARENT, kind) for kind in self.kinds))


@torch.no_grad()
def _with_values(module: nn.Module) -> nn.Module:
    """Fill the weights with ordinary values: fresh memory may hold subnormal numbers, which are slow, or infinities."""
    for weight in module.parameters():
        if weight.ndim > 1:
            weight.normal_(0, 0.02)
        else:
            weight.fill_(1)
    return module


def alternatives_of(space: Space, shape: Shape) -> dict[SubBlock, dict[str, Alternative]]:
    """Return every distinct alternative of a space by sub-block and label, over all kinds of layer; the parent's come first."""
    kinds = shape.kind_of_each
    found: dict[SubBlock, dict[str, Alternative]] = {
        part: {label(PARENT, kind): PARENTS[part] for kind in range(max(kinds) + 1)} for part in SUB_BLOCKS
    }
    for kind, layer in zip(kinds, space.layers, strict=True):
        found["attention"] |= {label(a.name, kind): a for a in layer.attention}
        found["ffn"] |= {label(a.name, kind): a for a in layer.ffn}
    return found


def balanced(labels: Mapping[SubBlock, Iterable[str]], kinds: Sequence[int], seed: int) -> Arrangement:
    """Return a random arrangement: each of `labels` equally often in layers of its kind; if too many, `seed` says which."""
    shuffle = random.Random(seed)

    def one(labels: Iterable[str]) -> tuple[str, ...]:
        found = [""] * len(kinds)
        for kind in dict.fromkeys(kinds):
            alike = [layer for layer, other in enumerate(kinds) if other == kind]
            choices = [name for name in labels if kind_of(name) == kind]
            picked = [choices[(seed * len(alike) + i) % len(choices)] for i in range(len(alike))]
            shuffle.shuffle(picked)
            for layer, name in zip(alike, picked, strict=True):
                found[layer] = name
        return tuple(found)

    return {sub_block: one(labels[sub_block]) for sub_block in SUB_BLOCKS}


def random_child(space: Space, kinds: Sequence[int], seed: int) -> Arrangement:
    """Return a random child: each sub-block keeps the parent's with one random probability up to 0.8, else draws any choice."""
    dice = random.Random(seed)
    keep = dice.uniform(0, 0.8)

    def pick(kind: int, choices: Sequence[Alternative]) -> str:
        own = next((each.name for each in choices if each.cache or each.keeps_weights), PARENT)
        return label(own if dice.random() < keep else dice.choice(choices).name, kind)

    both = list(zip(kinds, space.layers, strict=True))
    found: Arrangement = {
        "attention": tuple(pick(kind, cast(Sequence[Alternative], layer.attention)) for kind, layer in both),
        "ffn": tuple(pick(kind, cast(Sequence[Alternative], layer.ffn)) for kind, layer in both),
    }
    if offered := ends_of(space):
        found["ends"] = (dice.choice(offered),)
    return found


SPEEDS = (0.4, 0.2, 0.6)
"""Shares of a space's greatest saving of time that `searched_child` aims at: one for each seed, in turn."""
HALVINGS = 60
"""Bisection steps to the price of a second: so many go from far above all scores down to far below their differences."""


def searched_child(
    space: Space, kinds: Sequence[int], seconds: Mapping[Key, float], stored: Mapping[Key, float], seed: int
) -> Arrangement:
    """Return the child that a search would choose at one of SPEEDS. `seconds`, `stored`: time and bytes of each alternative.

    Random scores stand in for measured ones: the bytes of the parent's sub-block, times the cube of the share of them that the
    alternative saves, times a log-normal number. The cube makes four bits cost little beside no sub-block.
    """
    dice = random.Random(seed)

    def scored(part: Part, names: Sequence[str], own: str) -> dict[Key, float]:
        whole = stored[part, own]
        saved = {name: max(0.0, 1 - stored[part, name] / whole) if whole else 0.0 for name in names}
        return {(part, name): whole * saved[name] ** 3 * dice.lognormvariate(0, 1) for name in names}

    sites = [
        scored(part, [label(each.name, kind) for each in of], label(PARENT, kind))
        for part in SUB_BLOCKS
        for kind, layer in zip(kinds, space.layers, strict=True)
        for of in [layer.attention if part == "attention" else layer.ffn]
    ]
    if offered := ends_of(space):
        sites.append(scored("ends", offered, offered[0]))

    def chosen(price: float) -> list[Key]:
        return [min(site, key=lambda key: (site[key] + price * seconds[key], seconds[key])) for site in sites]

    def time_of(child: Sequence[Key]) -> float:
        return sum(seconds[key] for key in child)

    low, high = 0.0, 1e9 * max(map(max, (site.values() for site in sites))) / max(seconds.values())
    slow, fast = time_of(chosen(low)), time_of(chosen(high))
    for _ in range(HALVINGS):
        price = (low + high) / 2
        if time_of(chosen(price)) > slow - SPEEDS[seed % len(SPEEDS)] * (slow - fast):
            low = price
        else:
            high = price
    names, depth = [name for _, name in chosen(high)], len(kinds)
    found: Arrangement = {"attention": tuple(names[:depth]), "ffn": tuple(names[depth : 2 * depth])}
    return found | ({"ends": (names[-1],)} if offered else {})


def ends_of(space: Space) -> list[str]:
    """Return the names of a space's choices of both ends, the parent's first; an empty list if it offers no choice."""
    names = [] if space.ends is None else [*space.ends.by_name()]
    return sorted(names, key=lambda name: name != PARENT_ENDS.name)
