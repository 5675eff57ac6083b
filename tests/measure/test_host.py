"""A host runs any arrangement as the child it stands for, and its parent again afterwards."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.measure.estimate import time_laps
from puzzledsl.measure.host import (
    Host,
    alternatives_of,
    balanced,
    kind_of,
    label,
    parent_beside,
)
from puzzledsl.measure.stopwatch import CpuStopwatch
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.access import layers, norm_before, shape_of, sub_block_of
from tests.pieces.train.bld_programs import ATTENTION, FFN, make_program
from tests.tiny import FAMILIES, tiny_model, tiny_tokens

NAMES = {"attention": tuple(a.name for a in ATTENTION), "ffn": tuple(a.name for a in FFN)}

ALIKE = (0,) * 6
"""Kinds of six layers of one kind."""


def host_of(tmp_path, family="llama", **sizes) -> Host:
    space = make_program(tmp_path, family, model={"layers": 6, **sizes}).spaces["w"]
    model = tiny_model(family, layers=6, **sizes)
    return Host(model, alternatives_of(space, shape_of(model.config)))


@pytest.mark.parametrize("family", FAMILIES)
def test_arranging_leaves_the_parent_as_it_was(tmp_path, family):
    host, tokens = host_of(tmp_path, family), tiny_tokens()
    before = host.model(tokens).logits
    host.arrange(balanced(NAMES, ALIKE, 0))
    assert not torch.allclose(host.model(tokens).logits, before)
    host.arrange(host.parent())
    assert torch.equal(host.model(tokens).logits, before)


def test_every_layer_holds_what_it_was_given_and_no_module_twice(tmp_path):
    host = host_of(tmp_path)
    shape = shape_of(host.model.config)
    for seed in range(5):
        arrangement = balanced(NAMES, ALIKE, seed)
        host.arrange(arrangement)
        held = []
        for index, layer in enumerate(layers(host.model)):
            for sub_block in SUB_BLOCKS:
                module, norm = sub_block_of(layer, sub_block), norm_before(layer, sub_block)
                held.append(module)
                alternative = host.alternatives[sub_block][arrangement[sub_block][index]]
                numbers = sum(w.numel() for part in (module, norm) for w in part.parameters())
                assert numbers == alternative.size(shape).params
                assert all(torch.isfinite(w).all() for w in module.parameters())
        assert len(set(map(id, held))) == len(held)


def test_a_full_pool_shares_the_weights_of_alike_modules(tmp_path):
    host = host_of(tmp_path)
    full = Host(host.model, host.alternatives, pool_bytes=0)
    full.arrange(full.parent() | {"ffn": (NAMES["ffn"][1],) * 6})
    weights = {id(w) for layer in layers(full.model) for w in sub_block_of(layer, "ffn").parameters()}
    assert len(weights) == 3, "of one of six modules"


def test_laps_cover_the_forward(tmp_path):
    """Two stretches a layer in each forward, none of them lost, and no hook is left behind."""
    host, watch = host_of(tmp_path), CpuStopwatch()
    totals, real = [], watch.prepare

    def spy(computation):
        run = real(computation)
        return lambda: totals.append(run()) or totals[-1]

    watch.prepare = spy  # type: ignore[method-assign]
    prefill, steps = time_laps(host, balanced(NAMES, ALIKE, 1), Workload(2, 8, 4), watch)
    assert len(steps) == 4 and [prefill, *steps] == totals
    assert all(len(laps) == 1 + 2 * 6 + 1 and min(laps) > 0 for laps in totals)
    for layer in layers(host.model):
        assert not layer._forward_pre_hooks and not layer._forward_hooks
        assert not norm_before(layer, "ffn")._forward_pre_hooks


@given(
    kinds=st.lists(st.integers(0, 2), max_size=9).map(lambda tail: (0, 1, 2, *tail)),
    own=st.sampled_from(["parent", "parent@q8_0", "mlp64@int8"]),
    seed=st.integers(0, 99),
)
def test_arrangements_are_balanced_in_each_kind_of_layer(kinds, own, seed):
    """In each of them, and in all of them together."""
    names = (own, "noop", "linear", "gqa1")
    labels = {s: tuple(label(name, k) for k in range(3) for name in names[: 2 + k]) for s in SUB_BLOCKS}
    depths, seen = Counter(kinds), {s: Counter() for s in SUB_BLOCKS}
    for turn in range(seed, seed + 12):
        arrangement = balanced(labels, kinds, turn)
        for sub_block, mine in arrangement.items():
            assert tuple(map(kind_of, mine)) == kinds
            assert {parent_beside(name) for name in mine} == {label("parent", kind) for kind in kinds}
            seen[sub_block].update(mine)
            for kind in range(3):
                here = [name for name in labels[sub_block] if kind_of(name) == kind]
                assert sum(name in here for name in mine) == depths[kind]
                for found in (Counter(mine), seen[sub_block]):
                    counts = [found[name] for name in here]
                    assert max(counts) - min(counts) <= 1
