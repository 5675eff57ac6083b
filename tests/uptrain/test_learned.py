"""Uptraining on conversations trains on the positions that the data says, and on nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.data.streams import TokenRows, token_rows
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.uptrain import train
from puzzledsl.uptrain.model import Student, Target, Teacher, cosine_loss, hidden_states
from puzzledsl.uptrain.ranks import Ranks
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain
from puzzledsl.uptrain.train import Trainer, micro_batches
from tests.blocks import stream_in_memory
from tests.uptrain.cases import Case, Interrupted, Recorder, make_case, with_chats, with_uptrain

CONTEXT, BLOCKS = 16, 24


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("learned"))


def some_rows(*, learned: float = 0.3, seed: int = 0) -> TokenRows:
    """Random blocks of which losses count a random share of the tokens, of each block another."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, 260, BLOCKS * CONTEXT).astype(np.int32)
    share = np.repeat(random.uniform(0, 2 * learned, BLOCKS), CONTEXT)
    stored = np.where(random.uniform(size=ids.shape) < share, ids, ~ids)
    return TokenRows([stream_in_memory(stored)], np.zeros(BLOCKS, "u2"), np.arange(BLOCKS), CONTEXT)


def trainer_of(
    case: Case, work: Path, rows: TokenRows, progress: Recorder | Silent | None = None, **changes: object
) -> Trainer:
    declaration = with_uptrain(case.program, **{"lm": 0.5, "batch": 6} | changes).uptrains["final"]
    models = Teacher(load_parent(case.parent)), Student(load_child(case.child))
    return Trainer(declaration, *models, rows, rows.part(0, 4), work, progress or Silent())


def first_step(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> tuple[train.Step, dict[str, torch.Tensor]]:
    """Losses and gradients of the first step, before clipping; nothing is changed."""
    found: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(train, "MAX_GRAD_NORM", 1e9)
    keep = dict(trainer.child.named_parameters())
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: found.update({n: w.grad.clone() for n, w in keep.items()})
    )
    return trainer.step(0), found


@dataclass
class Expected:
    """Losses written out: means over the positions of all blocks that count."""

    kld: torch.Tensor
    cosine: torch.Tensor
    lm: torch.Tensor


def written_out(
    case: Case, ids_GT: torch.Tensor, learned_GT: torch.Tensor
) -> tuple[Expected, torch.nn.Module]:
    parent, child = load_parent(case.parent), load_child(case.child)
    child.requires_grad_(True)
    with torch.no_grad():
        theirs, p = hidden_states(parent, ids_GT, every_layer=True), parent(ids_GT).logits.float()
    ours, q = hidden_states(child, ids_GT, every_layer=True), child(ids_GT).logits.float()
    at = learned_GT
    kld = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(-1)[at].mean()
    lm = F.cross_entropy(q[:, :-1][at[:, :-1]], ids_GT[:, 1:][at[:, :-1]])
    layers = [
        1 - F.cosine_similarity(a[at], b[at], dim=-1).mean()
        for a, b in zip(ours.layers, theirs.layers, strict=True)
    ]
    return Expected(kld, torch.stack(layers).mean(), lm), child


@pytest.mark.parametrize("micro_batch", [1, 4, 6])
def test_losses_and_gradients_are_means_over_the_positions_that_count(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int
) -> None:
    """However the step is cut, though each block has another share of them."""
    rows = some_rows()
    learned_GT = rows.learned(slice(0, 6))
    assert learned_GT is not None and len(set(learned_GT.sum(1).tolist())) > 3
    expected, child = written_out(case, rows[0:6], learned_GT)
    (expected.kld + expected.cosine + 0.5 * expected.lm).backward()
    expected = Expected(expected.kld.detach(), expected.cosine.detach(), expected.lm.detach())
    step, found = first_step(trainer_of(case, tmp_path, rows, micro_batch=micro_batch), monkeypatch)
    assert step.kld == pytest.approx(float(expected.kld.detach()), rel=1e-5)
    assert step.cosine == pytest.approx(float(expected.cosine), rel=1e-5)
    assert step.lm == pytest.approx(float(expected.lm), rel=1e-5)
    for name, weight in child.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{"dtype": "bf16"}, {"recompute": True}])
def test_other_paths_count_the_same_positions(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    plain, exact = first_step(trainer_of(case, tmp_path / "a", some_rows()), monkeypatch)
    other, near = first_step(trainer_of(case, tmp_path / "b", some_rows(), **changes), monkeypatch)
    assert other.kld == pytest.approx(plain.kld, rel=0.05) and other.cosine == pytest.approx(
        plain.cosine, rel=0.05
    )
    one, two = (torch.cat([g.flatten() for g in each.values()]) for each in (exact, near))
    assert F.cosine_similarity(one, two, dim=0) > 0.99


def test_16_bit_streams_are_chosen_from_inside_the_checkpoint() -> None:
    generator = torch.Generator().manual_seed(0)
    child, parent = (torch.randn(2, 3, 2, 8, 4, generator=generator).bfloat16() for _ in range(2))
    learned_M = torch.tensor([1, 5, 6, 15])
    for a, b in zip(child, parent, strict=True):
        leaves = [x.clone().requires_grad_(True) for x in a]
        loss = cosine_loss(leaves, list(b), learned_M)
        wanted = torch.stack(
            [
                1
                - F.cosine_similarity(
                    x.flatten(0, 1)[learned_M].float(), y.flatten(0, 1)[learned_M].float()
                ).mean()
                for x, y in zip(a, b, strict=True)
            ]
        ).mean()
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(wanted.detach()))
        for x in leaves:
            assert x.grad is not None
            touched = x.grad.flatten(0, 1).abs().sum(-1).nonzero().flatten()
            assert touched.tolist() == learned_M.tolist()


def test_what_does_not_count_is_not_learned(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last token of each block counts, so no gradient reaches the head's rows but through its prediction."""
    rows = some_rows()
    stored = rows[:].numpy().astype(np.int32).reshape(BLOCKS, CONTEXT)
    stored[:, :-1] = ~stored[:, :-1]
    last = TokenRows(
        [stream_in_memory(stored.reshape(-1))], np.zeros(BLOCKS, "u2"), np.arange(BLOCKS), CONTEXT
    )
    step, _ = first_step(trainer_of(case, tmp_path, last, kld=0, cosine=0, lm=1), monkeypatch)
    child = load_child(case.child)
    ids = last[0:6]
    wanted = F.cross_entropy(child(ids).logits[:, -2].float(), ids[:, -1])
    assert step.lm == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_steps_without_a_position_that_counts_change_nothing_and_fail_nowhere(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(learned=0.0)
    for dtype in ("fp32", "bf16"):
        step, found = first_step(trainer_of(case, tmp_path / dtype, rows, dtype=dtype), monkeypatch)
        assert (step.loss, step.kld, step.cosine, step.lm) == (0, 0, 0, 0)
        assert all(not gradient.any() for gradient in found.values())


def test_held_out_kl_is_of_the_positions_that_count(case: Case, tmp_path: Path) -> None:
    rows = some_rows(seed=3)
    trainer = trainer_of(case, tmp_path, rows, micro_batch=3)
    held_out = rows.part(0, 4)
    learned = held_out.learned(slice(None))
    assert learned is not None
    expected, _ = written_out(case, held_out[:], learned)
    for _ in range(2):  # the second time the parent's states are read
        assert trainer.heldout_kl() == pytest.approx(float(expected.kld.detach()), rel=1e-5)


def test_a_resumed_run_is_an_unbroken_one(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer_of(case, tmp_path / "whole", some_rows())
    whole.run()
    monkeypatch.setattr(train, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e9)
    with pytest.raises(Interrupted):
        trainer_of(case, tmp_path / "cut", some_rows(), Recorder(limit=2)).run()
    resumed = trainer_of(case, tmp_path / "cut", some_rows(), seen := Recorder())
    resumed.run()
    assert seen.named("uptrain_resumed")
    for one, two in zip(whole.child.parameters(), resumed.child.parameters(), strict=True):
        assert torch.equal(one, two)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=16),
    micro=st.integers(1, 20),
    world=st.integers(1, 5),
)
def test_micro_batches_share_out_the_positions(counts: list[int], micro: int, world: int) -> None:
    """Over all processes every position that counts is there once, and each weighs the same."""
    ids = torch.arange(len(counts) * 6).reshape(-1, 6)
    learned = torch.tensor([[i < count for i in range(6)] for count in counts])
    each = [micro_batches(ids, learned, micro, Ranks(rank, world)) for rank in range(world)]
    assert len({len(mine) for mine in each}) == 1
    seen: list[int] = []
    for batch in (batch for mine in each for batch in mine if batch.share):
        assert batch.learned_M is not None
        seen += batch.ids_BT.flatten()[batch.learned_M].tolist()
        assert batch.share == pytest.approx(len(batch.learned_M) / sum(counts))
    assert sorted(seen) == ids[learned].tolist()


def test_a_student_without_positions_gives_zero(case: Case) -> None:
    student, teacher = Student(load_child(case.child)), Teacher(load_parent(case.parent))
    ids = some_rows()[0:1]
    target: Target = teacher(ids, True)
    assert student(ids, target, None, torch.empty(0, dtype=torch.long)) == 0


def test_a_run_on_chats_says_how_much_counted(tmp_path: Path) -> None:
    case = with_chats(make_case(tmp_path, tokens=640, batch=8))
    given = (case.parent, case.child, case.out, case.base, case.base / "work", case.base / "tokens")
    run_uptrain(UptrainInputs(case.program, "final", *given, Recorder()))
    record = json.loads((case.out / "uptrain.json").read_text())
    rows = token_rows(
        *(case.program.data["mix"], case.base, load_tokenizer(case.parent)),
        context=CONTEXT,
        tokens=CONTEXT * 44,
        seed=1,
        cache=tmp_path / "again",
    )
    counted = rows.part(4).learned(slice(None))
    assert counted is not None and record["learned_tokens"] == int(counted.sum()) < record["tokens"] == 640
    assert record["heldout_kl_after"] <= record["heldout_kl_before"]
