"""A whole model is timed as it would generate, at the mean context, taking turns with others."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir.nodes import Scenario, Traffic
from puzzledsl.measure.whole import DECODE_WINDOW, Forward, Workload, needs_prefill, served_work
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from tests.children import MIXED, define, random_pieces
from tests.pieces.train.bld_programs import WHERE
from tests.tiny import FAMILIES, save_tiny, tiny_model


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """Every kind of alternative; no attention in layer 0."""
    base = tmp_path_factory.mktemp("timing")
    parent = save_tiny(base / "parent", layers=len(MIXED), scale=0.2)
    realise(define(MIXED), parent, random_pieces(load_parent(parent), MIXED), base / "child")
    return load_child(base / "child")


def cache_lengths(forward: Forward) -> set[int]:
    return {length for layer in forward._cache.layers if (length := layer.get_seq_length())}


@pytest.mark.parametrize("family", [*FAMILIES, "child"])
@torch.inference_mode()
def test_its_steps_are_greedy_generation(child, family):
    model = child if family == "child" else tiny_model(family)
    forward = Forward(model, Workload(batch=2, prompt=7, output=5))
    forward.prefill()
    tokens = [forward._next]
    for _ in range(4):
        forward.decode_step()
        tokens.append(forward._next)
    ids = forward._ids
    for token in tokens:  # without a cache
        assert torch.equal(token, model(ids).logits[:, -1].argmax(-1, keepdim=True))
        ids = torch.cat([ids, token], -1)


@torch.inference_mode()
def test_the_window_is_centred_on_the_mean_context(child):
    workload = Workload(batch=2, prompt=9, output=40)
    forward = Forward(child, workload)
    forward.prefill()
    assert cache_lengths(forward) == {9}
    forward.lengthen()
    first = workload.context
    assert cache_lengths(forward) == {first}
    for _ in range(workload.window):
        forward.decode_step()
    assert cache_lengths(forward) == {first + DECODE_WINDOW}
    assert (first + first + DECODE_WINDOW) / 2 == 9 + 40 / 2


@given(prompt=st.integers(1, 100), output=st.integers(1, 100))
def test_the_window_lies_within_the_generation(prompt, output):
    workload = Workload(1, prompt, output)
    assert prompt <= workload.context or output < 3
    assert workload.context + workload.window <= prompt + output + 1


@pytest.mark.parametrize(("batch", "timed"), [(1, True), (2, False), (8, False)])
def test_prompts_of_traffic_are_timed_at_one_sequence_and_the_work_of_a_load_is_its_tokens(batch, timed):
    where = {"name": "s", "hardware": "h", "where": WHERE}
    busy = Scenario(**where, batches=tuple(range(1, 9)), prompt=256, output=32)
    chat = Scenario(**where, batches=(1,), prompt=64, output=128)
    loads = [chat, busy.model_copy(update={"traffic": Traffic(rate=Fraction(1), at_most=8, where=WHERE)})]
    load, shape = Workload.of(busy, batch), shape_of(tiny_model().config)
    assert needs_prefill(loads, load) == timed
    work, less = (served_work(shape, load, 4, prefill=prefill) for prefill in (True, False))
    assert 0 < less < work
