"""Timing on a GPU: events with and without graphs, and a KV cache that no step copies."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.cache_utils import CacheLayerMixin

from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir import nodes
from puzzledsl.measure import estimate
from puzzledsl.measure.cells import measure_costs
from puzzledsl.measure.stopwatch import CudaStopwatch, stopwatch_for
from puzzledsl.measure.whole import Forward, WholeTimer, Workload
from puzzledsl.models.families.load import load_parent
from tests.cases import more
from tests.children import MIXED, define, random_pieces
from tests.pieces.train.bld_programs import WHERE, make_program
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.tiny import save_tiny

WORK = Workload(batch=2, prompt=7, output=9)


class Copied(TorchDispatchMode):
    """The most tokens that one `cat` of key or value states copies."""

    tokens = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.cat and out.ndim == 4:
            self.tokens = max(self.tokens, out.shape[-2])
        return out


def model_of(kind: str, directory: Path, device: str):
    if kind != "child":
        return load_parent(directory / "parent", device=device)
    return load_child(directory / "child", device=device)


@pytest.fixture(
    scope="module", params=["llama", *more("mistral", "gemma3_text", "gpt_oss"), "nemotron_h", "child"]
)
def made(request, tmp_path_factory) -> tuple[str, Path]:
    """Full attention, windows of every kind, states, and a child."""
    kind, directory = request.param, tmp_path_factory.mktemp("timed")
    family = "llama" if kind == "child" else kind
    layers = len(MIXED) if kind == "child" else 4 if kind == "nemotron_h" else 3
    window = {"sliding_window": 5} if kind in ("mistral", "gpt_oss") else {}
    save_tiny(directory / "parent", family, layers=layers, scale=0.2, **window)
    if kind == "child":
        pieces = random_pieces(load_parent(directory / "parent"), MIXED)
        realise(define(MIXED), directory / "parent", pieces, directory / "child")
    return kind, directory


def held(forward: Forward) -> list[tuple[torch.Tensor, int]]:
    layers = [layer for layer in forward._cache.layers if isinstance(layer, CacheLayerMixin)]
    return [(layer.keys, layer.get_seq_length()) for layer in layers if layer.get_seq_length()]


@torch.inference_mode()
def test_a_step_writes_the_cache_in_place(made: tuple[str, Path], pretended: Gpu):
    here, there = (Forward(model_of(*made, device), WORK) for device in ("cpu", "cuda"))
    for forward in (here, there):
        forward.prefill()
        forward.lengthen()
    before = held(there)
    token = there._next
    here.decode_step()
    with Copied() as copied:
        there.decode_step()
    assert torch.equal(there._next.cpu(), here._next)
    assert copied.tokens < WORK.context - 1 or made[0] == "gpt_oss"  # which adds its sinks to the scores
    for (keys, length), (same_keys, same_length) in zip(before, held(there), strict=True):
        assert keys is same_keys and length == same_length
    first, there._next = there._next, token
    if made[0] != "nemotron_h":  # its states go on
        there.decode_step()
        assert torch.equal(there._next, first)


@torch.inference_mode()
@pytest.mark.parametrize("external", [True, False])
def test_a_round_with_and_without_events_in_graphs(made: tuple[str, Path], external: bool):
    with pretended_gpu(external_events=external, replays=1):
        model = model_of(*made, "cuda")
        watch = stopwatch_for(torch.device("cuda"))
        assert isinstance(watch, CudaStopwatch) and watch.in_graphs == external
        timer = WholeTimer(model, WORK)
        for _ in range(2):
            prefill_s, decode_s = timer.round()
            assert prefill_s > 0 and len(decode_s) == WORK.window and min(decode_s) > 0


@pytest.mark.slow
def test_a_parent_that_does_not_fit_is_timed_with_all_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("ROUNDS", "CHECKED_CHILDREN", "CHECK_ROUNDS"):
        monkeypatch.setattr(estimate, name, 1)
    sizes = {"layers": 12, "hidden": 256, "intermediate": 2048, "heads": 4, "kv_heads": 2, "head_dim": 32}
    kinds = {"attention": [ParentAttention(), NoOpAttention()], "ffn": [ParentFfn(), MlpFfn(width=1024)]}
    program = make_program(tmp_path, model=sizes, **kinds)
    hardware = nodes.Hardware(name="h", spec=nodes.MeasuredHardware(device="cuda", dtype="bf16"), where=WHERE)
    chat = nodes.Scenario(name="chat", hardware="h", batches=(1,), prompt=8, output=4, where=WHERE)
    program = program.model_copy(update={"hardware": {"h": hardware}, "scenarios": {"chat": chat}})
    whole = 2 * sum(weight.numel() for weight in load_parent(tmp_path / "parent").parameters())
    with pretended_gpu(memory_bytes=int(1.6 * whole), replays=1) as gpu:
        table = measure_costs(program, "w", tmp_path / "parent", tmp_path / "work", Silent())
        assert gpu.peak_bytes <= 1.6 * whole
    assert ", with the weights of 9 of 12 layers" in table.provenance["chat"]
    (costs,) = table.scenarios["chat"]
    assert len(costs.ffn) == 12 and costs.ffn[0]["parent"].prefill_ns > 0
