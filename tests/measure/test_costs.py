"""The measured table is complete and exact in what can be counted, and measuring goes on where it was interrupted.

A measured hardware is checked against the machine.
"""

import pytest
import torch

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.diagnostics import CannotRealise, SeveralGpus
from puzzledsl.base.progress import Silent
from puzzledsl.ir import nodes
from puzzledsl.measure import estimate, place
from puzzledsl.measure.cells import measure_costs
from puzzledsl.measure.errors import NoSuchDevice, NoWorkload
from puzzledsl.measure.place import device_of
from tests.interrupting import Interrupted, Recorder
from tests.pieces.train.bld_programs import ATTENTION, FFN, WHERE, make_program
from tests.refused import refused

SIZES = {"layers": 4, "hidden": 96, "intermediate": 384, "heads": 4, "kv_heads": 2, "head_dim": 32}


@pytest.fixture
def few_rounds(monkeypatch) -> None:
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)


def hardware(name="here", spec=None, **of) -> nodes.Hardware:
    return nodes.Hardware(name=name, spec=spec or nodes.MeasuredHardware(**of), where=WHERE)


def scenario(name, on, batches=(1,)) -> nodes.Scenario:
    return nodes.Scenario(name=name, hardware=on, batches=batches, prompt=24, output=6, where=WHERE)


def program(base, *, batches=(2,), memory=None, ffn=FFN) -> nodes.Program:
    places = {"here": hardware(memory_bytes=memory), "t": hardware("t", nodes.TableHardware(path="t.csv"))}
    scenarios = {"chat": scenario("chat", "here", batches), "far": scenario("far", "t")}
    made = make_program(base, model=SIZES, ffn=ffn)
    return made.model_copy(update={"hardware": places, "scenarios": scenarios})


def measure(base, made, progress=None):
    return measure_costs(made, "w", base / "parent", base / "work", progress or Silent())


def test_every_alternative_of_every_layer_has_its_cost(tmp_path):
    made = program(tmp_path)
    table = measure(tmp_path, made)
    assert list(table.scenarios) == list(table.provenance) == ["chat"]
    (costs,) = table.scenarios["chat"]
    assert (costs.batch, costs.prompt, costs.output, costs.capacity_bytes) == (2, 24, 6, None)
    assert len(costs.attention) == len(costs.ffn) == 4 and len(set(map(str, costs.ffn))) == 1
    shape = made.parents["p"].shape
    for alternatives, layer, params in (
        (ATTENTION, costs.attention[0], table.params_attention[0]),
        (FFN, costs.ffn[0], table.params_ffn[0]),
    ):
        assert list(layer) == list(params) == [a.name for a in alternatives]
        for alternative in alternatives:
            cost = layer[alternative.name]
            size = alternative.size(shape).params
            assert cost.params == params[alternative.name] == size and cost.weights_bytes == 4 * size
            assert cost.prefill_ns > 0 and cost.decode_ns > 0
    assert costs.attention[0]["parent"].kv_cache_bytes == 2 * 30 * 2 * 2 * 32 * 4
    assert costs.attention[0]["gqa2w6"].kv_cache_bytes == 2 * 6 * 2 * 2 * 32 * 4
    assert costs.attention[0]["linear"].kv_cache_bytes == costs.fixed.kv_cache_bytes == 0
    assert costs.ffn[0]["noop"].prefill_ns < costs.ffn[0]["parent"].prefill_ns
    assert "CPU" in table.provenance["chat"] or "threads" in table.provenance["chat"]
    assert not (tmp_path / "work").exists()


def rounds_in(base) -> list[bytes]:
    return [path.read_bytes() for path in sorted((base / "work").glob("*.rounds.*.json"))]


def test_interrupted_measuring_goes_on(tmp_path):
    made = program(tmp_path)
    with pytest.raises(Interrupted):
        measure(tmp_path, made, Recorder(limit=3))
    before = rounds_in(tmp_path)
    assert len(before) == 3
    next((tmp_path / "work").glob("*.rounds.2.json")).write_bytes(before[2][:50])  # the last one is damaged
    with pytest.raises(Interrupted):
        measure(tmp_path, made, Recorder(limit=5))
    after = rounds_in(tmp_path)
    assert after[:2] == before[:2] and after[2] != before[2] and len(after) == 5
    progress = Recorder()
    measure(tmp_path, made, progress)
    assert progress.advanced == progress.named("start")[0]["total"]
    assert len(progress.named("measure_check")) == 3


def test_an_auto_batch_is_tried_as_far_as_the_parent_fits(tmp_path, few_rounds, monkeypatch):
    shape = program(tmp_path, batches=()).parents["p"].shape
    sizes = [a.size(shape).params for a in (ATTENTION[0], FFN[0])]
    weights = 4 * (2 * shape.vocab * shape.hidden + shape.hidden + shape.layers * sum(sizes))
    cache = shape.layers * 30 * 2 * 2 * 32 * 4
    for tokens, batches in (48, [1, 2]), (1, [1]):  # of a pass over prompts; one prompt has 24
        monkeypatch.setitem(place.AUTO_PREFILL_TOKENS, "cpu", tokens)
        table = measure(tmp_path, program(tmp_path, batches=(), memory=weights + 3 * cache))
        assert [c.batch for c in table.scenarios["chat"]] == batches
        assert {c.capacity_bytes for c in table.scenarios["chat"]} == {weights + 3 * cache}
    assert refused(measure, tmp_path, program(tmp_path, batches=(), memory=weights)).kind == NoWorkload


def test_what_cannot_be_built_cannot_be_measured(tmp_path):
    moe = MoeFfn(experts=4, top_k=1, width=8)
    assert refused(measure, tmp_path, program(tmp_path, ffn=(*FFN, moe))).kind == CannotRealise


@pytest.mark.parametrize(("spec", "problem"), [({"device": "npu"}, NoSuchDevice), ({"gpus": 2}, SeveralGpus)])
def test_a_device_that_is_not_there_is_a_diagnostic_at_the_declaration(spec, problem):
    assert device_of(hardware(dtype="bf16")) == (torch.device("cpu"), torch.bfloat16)
    found = refused(device_of, hardware(**spec))
    assert found.kind == problem and found.span is not None
    assert found.span.line == WHERE.line and found.help
