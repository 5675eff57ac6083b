"""Uptraining brings a child nearer to its parent, never further, and can be interrupted anywhere."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.precision import PRECISIONS, Precision
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.models.errors import LossDiverged, NoUptrainData
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.precision.gptq import stored_codes
from puzzledsl.uptrain import model, train
from puzzledsl.uptrain.model import prepare_training
from puzzledsl.uptrain.run import UptrainInputs, heldout_blocks, run_uptrain
from puzzledsl.uptrain.train import Trainer
from tests.blocks import token_blocks
from tests.cases import more
from tests.children import Choice
from tests.tiles import cut
from tests.uptrain.cases import Case, Interrupted, Recorder, make_case, with_uptrain


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Case:
    """For tests that write below directories of their own."""
    return make_case(tmp_path_factory.mktemp("uptrain"))


def checkpoint_every_step(monkeypatch) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e9)


def run(case: Case, out, work, progress=None, program=None):
    directories = case.parent, case.child, out, case.base, work, case.base / "tokens"
    run_uptrain(UptrainInputs(program or case.program, "final", *directories, progress or Silent()))


def heldout_kl(case: Case, directory) -> float:
    """Measured from full logits, in float64."""
    declaration = case.program.uptrains["final"]
    blocks = heldout_blocks(declaration)
    tokens = token_blocks(
        case.program.data["mix"],
        case.base,
        load_tokenizer(case.parent),
        context=declaration.context,
        tokens=blocks * declaration.context,
        seed=declaration.seed,
    )
    log_p, log_q = (
        m(tokens).logits.double().log_softmax(-1) for m in (load_parent(case.parent), load_child(directory))
    )
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def test_the_child_comes_nearer_and_stays_a_child(shared, tmp_path):
    out, progress = tmp_path / "final", Recorder()
    run(shared, out, tmp_path / "work", progress)
    before, after = heldout_kl(shared, shared.child), heldout_kl(shared, out)
    assert after < 0.9 * before
    record = json.loads((out / "uptrain.json").read_text())
    assert record["heldout_kl_before"] == pytest.approx(before, rel=1e-4)
    assert record["heldout_kl_after"] == pytest.approx(after, rel=1e-4)
    assert record["tokens"] == 640 and len(progress.named("uptrain_step")) == 10
    assert {p.name for p in out.iterdir()} == {p.name for p in shared.child.iterdir()} | {"uptrain.json"}
    assert (out / "config.json").read_bytes() == (shared.child / "config.json").read_bytes()
    assert not (tmp_path / "work").exists()


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


@pytest.mark.states("uptrain.quantised")
def test_of_quantised_weights_the_scales_are_trained(tmp_path):
    """Codes stay, scales are stored ones."""
    case = make_case(tmp_path, QUANTISED, EndsAssignment.of("parent/parent@int8"))
    run(case, case.out, tmp_path / "work")
    before, after = (load_file(folder / "model.safetensors") for folder in (case.child, case.out))
    for name, weight in before.items():
        assert not torch.equal(weight, after[name]), name
        if (precision := type_of(name)) is not None:
            old, new = stored_codes(weight, precision, name), stored_codes(after[name], precision, name)
            assert torch.equal(old.codes, new.codes) and not torch.equal(old.scales, new.scales), name
    assert heldout_kl(case, case.out) < heldout_kl(case, case.child)


def test_scales_alone_bring_a_rounded_child_nearer(tmp_path, monkeypatch):
    """The rest is frozen."""
    case = make_case(tmp_path, QUANTISED, EndsAssignment.of("parent/parent@int8"))

    def scales_alone(child, *, scales):
        prepare_training(child, scales=scales)
        for name, weight in child.named_parameters():
            weight.requires_grad_("parametrizations" in name)

    monkeypatch.setattr(train, "prepare_training", scales_alone)
    run(case, case.out, tmp_path / "work")
    before, after = (load_file(folder / "model.safetensors") for folder in (case.child, case.out))
    for name, weight in before.items():
        assert torch.equal(weight, after[name]) == (type_of(name) is None), name
    assert heldout_kl(case, case.out) < heldout_kl(case, case.child)


@pytest.mark.parametrize("limit", [3, *more(7)])
def test_scales_resume_to_the_bit(tmp_path, monkeypatch, limit):
    case = make_case(tmp_path, QUANTISED)
    run(case, tmp_path / "unbroken", tmp_path / "work")
    checkpoint_every_step(monkeypatch)
    with pytest.raises(Interrupted):
        run(case, case.out, tmp_path / "work2", Recorder(limit=limit))
    run(case, case.out, tmp_path / "work2")
    name = "model.safetensors"
    assert (tmp_path / "unbroken" / name).read_bytes() == (case.out / name).read_bytes()


@pytest.mark.parametrize(
    "stops", [(3, 7), *(pytest.param(stop, marks=pytest.mark.more) for stop in ((1,), (4,), (10,)))]
)
def test_interrupted_is_unbroken_to_the_bit(shared, tmp_path, monkeypatch, stops):
    run(shared, tmp_path / "unbroken", tmp_path / "work")
    checkpoint_every_step(monkeypatch)
    for stop in stops:
        with pytest.raises(Interrupted):
            run(shared, tmp_path / "resumed", tmp_path / "work2", Recorder(limit=stop))
        assert not (tmp_path / "resumed").exists()
    progress = Recorder()
    run(shared, tmp_path / "resumed", tmp_path / "work2", progress)
    for path in (tmp_path / "unbroken").iterdir():
        assert (tmp_path / "resumed" / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(progress.named("uptrain_step")) == 10 - (stops[-1] - 1)


def test_unfinished_work_of_another_program_is_not_continued(shared, tmp_path, monkeypatch):
    checkpoint_every_step(monkeypatch)
    with pytest.raises(Interrupted):
        run(shared, tmp_path / "x", tmp_path / "work", Recorder(limit=5))
    other = with_uptrain(shared.program, seed=2)
    run(shared, tmp_path / "after", tmp_path / "work", program=other)
    run(shared, tmp_path / "fresh", tmp_path / "work2", program=other)
    name = "model.safetensors"
    assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


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
    for path in (tmp_path / "auto").iterdir():
        assert (tmp_path / "said" / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads((tmp_path / "auto" / "uptrain.json").read_text())["dtype"] == chosen


def test_work_begun_in_one_dtype_is_not_continued_in_another(shared, tmp_path, monkeypatch):
    checkpoint_every_step(monkeypatch)
    program = with_uptrain(shared.program, dtype=None)
    monkeypatch.setattr(model, "faster_in_bfloat16", lambda device: True)
    with pytest.raises(Interrupted):
        run(shared, tmp_path / "x", tmp_path / "work", Recorder(limit=5), program)
    monkeypatch.setattr(model, "faster_in_bfloat16", lambda device: False)
    progress = Recorder()
    run(shared, tmp_path / "x", tmp_path / "work", progress, program)
    assert len(progress.named("uptrain_step")) == 10


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


def test_an_existing_directory_is_replaced_whole(shared, tmp_path):
    out = tmp_path / "final"
    out.mkdir()
    (out / "old.txt").write_text("stale")
    run(shared, out, tmp_path / "work")
    assert not (out / "old.txt").exists() and (out / "model.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


@pytest.mark.parametrize(
    "weights", [{"kld": 0.5, "cosine": 2.0, "lm": 0.25}, {"kld": 0.0, "cosine": 0.0, "lm": 1.0}]
)
def test_the_gradient_is_that_of_the_plain_losses(shared, tmp_path, monkeypatch, weights):
    """One micro-batch at a time, against all at once from full logits and every hidden state."""
    cut(monkeypatch, training_tokens=32)
    declaration = with_uptrain(shared.program, **weights).uptrains["final"]
    ids = torch.randint(4, 260, (4, 16), generator=torch.Generator().manual_seed(0))
    parent, child, oracle = load_parent(shared.parent), load_child(shared.child), load_child(shared.child)
    trainer = Trainer(declaration, model.Teacher(parent), model.Student(child), ids, ids, tmp_path, Silent())
    grads = {}
    monkeypatch.setattr(
        trainer.optimizer,
        "step",
        lambda: grads.update({n: w.grad.clone() for n, w in child.named_parameters()}),
    )
    monkeypatch.setattr(train, "MAX_GRAD_NORM", 1e9)
    figures = trainer.step(0)

    oracle.requires_grad_(True)
    of_child, of_parent = (everything(model, ids) for model in (oracle, parent))
    q, p = of_child[-1].log_softmax(-1), of_parent[-1].log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    lm = F.nll_loss(q[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    cosine = (
        1
        - torch.stack(
            [
                F.cosine_similarity(c, t, dim=-1).mean()
                for c, t in zip(of_child[:-1], of_parent[:-1], strict=True)
            ]
        ).mean()
    )
    loss = weights["kld"] * kl + weights["cosine"] * cosine + weights["lm"] * lm
    loss.backward()
    assert (figures.kld, figures.lm) == pytest.approx((kl.item(), lm.item()), rel=1e-4)
    assert figures.loss == pytest.approx(loss.item(), rel=1e-4)
    for name, weight in oracle.named_parameters():
        torch.testing.assert_close(grads[name], weight.grad, rtol=1e-3, atol=1e-5)


def everything(model, ids):
    """Each layer's output, then the logits, by running the layers one by one."""
    runner, found = LayerRunner(model), []
    hidden = model.get_input_embeddings()(ids)
    for index in range(len(runner)):
        hidden = runner.run_layer(index, hidden)
        found.append(hidden)
    return [*found, runner.head(runner.final_norm(hidden))]


def test_what_cannot_be_trained_is_a_diagnostic(shared, tmp_path):
    program = with_uptrain(shared.program, lr=Schedule(kind="constant", peak=1e38))
    with pytest.raises(DiagnosticError) as error:
        run(shared, tmp_path / "final", tmp_path / "work", program=program)
    assert isinstance(error.value.diagnostics[0], LossDiverged) and not (tmp_path / "final").exists()


def test_data_must_be_named_when_there_are_several(shared, tmp_path):
    program = with_uptrain(shared.program, data=None)
    two = program.model_copy(update={"data": {**program.data, "other": program.data["mix"]}})
    with pytest.raises(DiagnosticError) as error:
        run(shared, tmp_path / "final", tmp_path / "work", program=two)
    assert isinstance(error.value.diagnostics[0], NoUptrainData)
