"""A whole model is timed as it would generate, at the mean context, taking turns with others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.checker.check import check
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.measure.stopwatch import CpuStopwatch, CudaStopwatch, spread, undisturbed
from puzzledsl.measure.whole import (
    DECODE_WINDOW,
    Forward,
    WholeTimer,
    Workload,
    needs_prefill,
    served_work,
)
from puzzledsl.models.families.load import load_parent
from tests.children import MIXED, define, random_pieces
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
        wanted = model(ids).logits[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(token, wanted)
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


def test_a_round_runs_one_prompt_and_a_window_of_steps(monkeypatch):
    calls = []
    model = tiny_model()
    model.register_forward_hook(
        lambda m, args, kwargs, out: calls.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    prefill, steps = WholeTimer(model, Workload(3, 5, 20)).round()
    assert calls == [(3, 5)] + [(3, 1)] * DECODE_WINDOW
    assert prefill > 0 and len(steps) == DECODE_WINDOW


def test_laps_of_a_cpu_add_up():
    watch = CpuStopwatch()

    def computation():
        for _ in range(2):
            sum(range(20000))
            watch.lap()

    run = watch.prepare(computation)
    first, second = run(), run()
    assert len(first) == len(second) == 3
    assert first[0] > first[2] and first[1] > first[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_graph_is_timed_between_its_laps():
    watch = CudaStopwatch(torch.device("cuda"))
    x = torch.randn(2048, 2048, device="cuda")

    def computation():
        x @ x
        watch.lap()
        for _ in range(20):
            x @ x

    run = watch.prepare(computation)
    one, twenty = run()
    assert 5 < twenty / one < 80


def test_interruptions_do_not_count():
    assert undisturbed([1.0] * 8 + [9.0] * 2) == 1.0 and undisturbed([2.0]) == 2.0
    assert spread([1.0]) == 0 and spread([1.0, 1.0, 1.0]) == 0 and spread([1.0, 2.0, 3.0]) > 0


SECONDS = {1: 12.2, 2: 5.8, 3: 7.4, 4: 6.9, 5: 8.8, 6: 9.3, 7: 9.0, 8: 10.2}
"""Seconds of a model of SmolLM2-135M in llama.cpp beside its parent, by sequences: 256 tokens and 32, one thread of an EPYC."""


def test_the_first_model_in_an_engine_tells_how_long_all_take(tmp_path):
    path = tmp_path / "busy.pzl"
    path.write_text(
        """use "std/parents.pzl" (smollm2_135m)
parent p = hf("parent", shape: smollm2_135m)
hardware here = measured(engine: llama_cpp, threads: 1)
scenario busy on here = traffic(1 req/s, 256 -> 32, at_most: 8)
scenario chat on here = batch(1, 64 -> 128)
"""
    )
    program = check(path).program
    shape, busy, chat = program.parents["p"].shape, program.scenarios["busy"], program.scenarios["chat"]
    assert busy.batches == (*SECONDS,)
    loads = {n: Workload.of(busy, n) for n in SECONDS}
    timed = {n: needs_prefill([busy, chat], load) for n, load in loads.items()}
    assert [n for n in timed if timed[n]] == [1]
    work = {n: served_work(shape, load, 4, prefill=timed[n]) for n, load in loads.items()}
    assert sum(work.values()) / work[1] * SECONDS[1] == pytest.approx(sum(SECONDS.values()), rel=0.2)
    of_chat = served_work(shape, Workload.of(chat, 1), 4, prefill=True)
    assert of_chat / work[1] * SECONDS[1] == pytest.approx(5.4, rel=0.4)
