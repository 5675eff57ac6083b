"""Uptraining brings a child nearer to its parent, never further, and can be interrupted anywhere."""

import json

import pytest
import torch
from safetensors.torch import load_file

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PRECISIONS, Precision
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.models.errors import LossDiverged, NoUptrainData
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.precision.gptq import stored_codes
from puzzledsl.uptrain import model, train
from puzzledsl.uptrain.model import prepare_training
from puzzledsl.uptrain.run import heldout_blocks
from tests.blocks import token_blocks
from tests.cases import more
from tests.children import Choice
from tests.interrupting import Interrupted, Recorder
from tests.refused import refused
from tests.uptrain.cases import LAYERS, Case, make_case, run, with_uptrain


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Case:
    """For tests that write below directories of their own."""
    return make_case(tmp_path_factory.mktemp("uptrain"))


def checkpoint_every_step(monkeypatch) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e9)


def heldout_kl(case: Case, directory) -> float:
    """Measured from full logits, in float64."""
    declaration = case.program.uptrains["final"]
    source = case.program.data["mix"], case.base, load_tokenizer(case.parent)
    sizes = {"context": declaration.context, "tokens": heldout_blocks(declaration) * declaration.context}
    tokens = token_blocks(*source, **sizes, seed=declaration.seed)
    parent, child = load_parent(case.parent), load_child(directory)
    log_p, log_q = (model(tokens).logits.double().log_softmax(-1) for model in (parent, child))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def test_the_child_comes_nearer_and_stays_a_child(shared, tmp_path):
    out, progress = tmp_path / "final", Recorder()
    out.mkdir()
    (out / "old.txt").write_text("stale: an existing directory is replaced whole")
    run(shared, out, tmp_path / "work", progress)
    before, after = heldout_kl(shared, shared.child), heldout_kl(shared, out)
    assert after < 0.9 * before
    record = json.loads((out / "uptrain.json").read_text())
    assert record["heldout_kl_before"] == pytest.approx(before, rel=1e-4)
    assert record["heldout_kl_after"] == pytest.approx(after, rel=1e-4)
    assert record["tokens"] == 640 and len(progress.named("uptrain_step")) == 10
    assert {p.name for p in out.iterdir()} == {p.name for p in shared.child.iterdir()} | {"uptrain.json"}
    assert (out / "config.json").read_bytes() == (shared.child / "config.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


QUANTISED: tuple[Choice, ...] = (
    (ParentAttention(dtype="int8"), MlpFfn(width=20)),
    (GqaAttention(kv_heads=1), ParentFfn(dtype="fp8")),
)
TYPES = {
    "lm_head.": PRECISIONS["int8"],
    "layers.0.self_attn.": PRECISIONS["int8"],
    "layers.1.mlp.": PRECISIONS["fp8"],
}


def type_of(name: str) -> Precision | None:
    return next((precision for part, precision in TYPES.items() if part in name), None)


def scales_alone(child, *, scales):
    prepare_training(child, scales=scales)
    for name, weight in child.named_parameters():
        weight.requires_grad_("parametrizations" in name)


@pytest.mark.states("uptrain.quantised")
@pytest.mark.parametrize("alone", [False, True])
def test_of_quantised_weights_the_scales_are_trained(tmp_path, monkeypatch, alone):
    """Codes stay, scales are stored ones; they bring the child nearer where all else is frozen, too."""
    case = make_case(tmp_path, QUANTISED, EndsAssignment.of("parent/parent@int8"))
    if alone:
        monkeypatch.setattr(train.model, "prepare_training", scales_alone)
    run(case, case.out, tmp_path / "work")
    before, after = (load_file(folder / "model.safetensors") for folder in (case.child, case.out))
    for name, weight in before.items():
        precision = type_of(name)
        assert torch.equal(weight, after[name]) == (alone and precision is None), name
        if precision is not None:
            old, new = stored_codes(weight, precision, name), stored_codes(after[name], precision, name)
            assert torch.equal(old.codes, new.codes) and not torch.equal(old.scales, new.scales), name
    assert heldout_kl(case, case.out) < heldout_kl(case, case.child)


def assert_same_files(one, other) -> None:
    for path in one.iterdir():
        assert (other / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("layers", "stops"),
    [(LAYERS, (3, 7)), (QUANTISED, (3,)), *more((LAYERS, (1,)), (LAYERS, (10,)), (QUANTISED, (7,)))],
)
def test_interrupted_is_unbroken_to_the_bit(tmp_path, monkeypatch, layers, stops):
    case = make_case(tmp_path, layers)
    run(case, tmp_path / "unbroken", tmp_path / "work")
    checkpoint_every_step(monkeypatch)
    for stop in stops:
        with pytest.raises(Interrupted):
            run(case, tmp_path / "resumed", tmp_path / "work2", Recorder(limit=stop))
        assert not (tmp_path / "resumed").exists()
    progress = Recorder()
    run(case, tmp_path / "resumed", tmp_path / "work2", progress)
    assert_same_files(tmp_path / "unbroken", tmp_path / "resumed")
    assert len(progress.named("uptrain_step")) == 10 - (stops[-1] - 1)


def test_unfinished_work_of_another_program_or_dtype_is_not_continued(shared, tmp_path, monkeypatch):
    checkpoint_every_step(monkeypatch)
    monkeypatch.setattr(model, "faster_in_bfloat16", lambda device: True)
    chosen = with_uptrain(shared.program, dtype=None)
    with pytest.raises(Interrupted):
        run(shared, tmp_path / "x", tmp_path / "work", Recorder(limit=5), chosen)
    monkeypatch.setattr(model, "faster_in_bfloat16", lambda device: False)
    for program in (chosen, with_uptrain(shared.program, seed=2)):
        progress = Recorder()
        run(shared, tmp_path / "after", tmp_path / "work", progress, program)
        assert len(progress.named("uptrain_step")) == 10
        with pytest.raises(Interrupted):
            run(shared, tmp_path / "x", tmp_path / "work", Recorder(limit=5), program)
    run(shared, tmp_path / "fresh", tmp_path / "work2", program=with_uptrain(shared.program, seed=2))
    assert_same_files(tmp_path / "fresh", tmp_path / "after")


@pytest.mark.parametrize("native", [True, False])
def test_a_dtype_that_is_left_out_is_the_machines(shared, tmp_path, monkeypatch, native):
    """It is told, and weighs the same as the one written out."""
    monkeypatch.setattr(model, "faster_in_bfloat16", lambda device: native)
    chosen, progress = "bf16" if native else "fp32", Recorder()
    program = with_uptrain(shared.program, dtype=None, tokens=128)
    run(shared, tmp_path / "auto", tmp_path / "work", progress, program)
    (told,) = progress.named("uptrain_dtype")
    assert told["dtype"] == chosen and f"in {chosen}, the" in told["text"]
    run(shared, tmp_path / "said", tmp_path / "work", program=with_uptrain(program, dtype=chosen, tokens=128))
    assert_same_files(tmp_path / "auto", tmp_path / "said")
    assert json.loads((tmp_path / "auto" / "uptrain.json").read_text())["dtype"] == chosen


HARM = {"lr": Schedule(kind="constant", peak=3.0), "kld": 0, "cosine": 0, "lm": 1}


def test_training_that_does_harm_is_undone(shared, tmp_path):
    harmful = with_uptrain(shared.program, **HARM)
    progress = Recorder()
    run(shared, tmp_path / "final", tmp_path / "work", progress, harmful)
    seen = [entry["kl"] for entry in progress.named("uptrain_heldout")]
    assert min(seen[1:]) > seen[0]
    before, after = (load_file(d / "model.safetensors") for d in (shared.child, tmp_path / "final"))
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.states("uptrain.keep")
def test_the_last_weights_are_kept_whatever_they_are_worth(shared, tmp_path, monkeypatch):
    checkpoint_every_step(monkeypatch)
    harmful = with_uptrain(shared.program, keep="last", **HARM)
    with pytest.raises(Interrupted):
        run(shared, tmp_path / "final", tmp_path / "work", Recorder(limit=7), harmful)
    run(shared, tmp_path / "final", tmp_path / "work", Recorder(), harmful)
    record = json.loads((tmp_path / "final" / "uptrain.json").read_text())
    assert record["best_step"] == record["steps"] == 10
    assert record["heldout_kl_after"] == record["heldout_kl"]["10"] > record["heldout_kl_before"]
    assert heldout_kl(shared, tmp_path / "final") == pytest.approx(record["heldout_kl_after"], rel=1e-4)


@pytest.mark.states("uptrain.rate")
def test_a_rate_that_is_left_out_fits_the_child(shared, tmp_path):
    """Lowered for a child near its parent, never raised; one that was given stays."""
    high, low = Schedule(peak=1.0), Schedule(peak=1e-9)
    peaks = {}
    for name, lr, fits in (("near", high, True), ("capped", low, True), ("given", high, False)):
        program = with_uptrain(shared.program, lr=lr, fits_child=fits, tokens=128)
        progress = Recorder()
        run(shared, tmp_path / name, tmp_path / "work", progress, program)
        record = json.loads((tmp_path / name / "uptrain.json").read_text())
        assert max(entry["lr"] for entry in progress.named("uptrain_step")) <= record["peak_rate"]
        peaks[name] = record["peak_rate"] / (5e-4 * record["heldout_kl_before"])
    assert peaks["near"] == 1 and peaks["capped"] < 1 < peaks["given"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"lr": Schedule(kind="constant", peak=1e38)}, LossDiverged), ({"data": None}, NoUptrainData)],
)
def test_what_cannot_be_trained_is_a_diagnostic(shared, tmp_path, changes, problem):
    """Rates that diverge, and data that is not named where there are several."""
    program = with_uptrain(shared.program, **changes)
    two = program.model_copy(update={"data": {**program.data, "other": program.data["mix"]}})
    assert refused(run, shared, tmp_path / "final", tmp_path / "work", program=two).kind == problem
    assert not (tmp_path / "final").exists()
