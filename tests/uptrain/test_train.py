"""Laws of a training step: its losses are means over the positions that count, and what saves memory changes nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.data.streams import TokenRows, token_rows
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.uptrain.model import Student, Teacher
from puzzledsl.uptrain.ranks import Ranks
from puzzledsl.uptrain.train import Trainer, micro_batches
from tests.blocks import stream_in_memory
from tests.uptrain.cases import Case, first_step, make_case, run, trainer_of, with_chats

CONTEXT, BLOCKS = 16, 24


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("train"))


def some_rows(*, learned: float | None = 0.3, seed: int = 0) -> TokenRows:
    """Random blocks of which losses count a random share of the tokens, of each block another; for None, all of them."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, 260, BLOCKS * CONTEXT).astype(np.int32)
    if learned is not None:
        share = np.repeat(random.uniform(0, 2 * learned, BLOCKS), CONTEXT)
        ids = np.where(random.uniform(size=ids.shape) < share, ids, ~ids)
    return TokenRows([stream_in_memory(ids)], np.zeros(BLOCKS, "u2"), np.arange(BLOCKS), CONTEXT)


EVERY = some_rows(learned=None)
ROWS = pytest.mark.parametrize("rows", [some_rows(), EVERY], ids=["some count", "all count"])


def everything(model, ids: torch.Tensor) -> list[torch.Tensor]:
    """Each layer's output, then log-probabilities, by running the layers one by one."""
    runner, found = LayerRunner(model), []
    hidden = model.get_input_embeddings()(ids)
    for index in range(len(runner)):
        hidden = runner.run_layer(index, hidden)
        found.append(hidden)
    return [*found, runner.head(runner.final_norm(hidden)).float().log_softmax(-1)]


def written_out(
    case: Case, ids_GT: torch.Tensor, at_GT: torch.Tensor
) -> tuple[list[torch.Tensor], torch.nn.Module]:
    """KL, cosine and cross-entropy, each a mean over the positions of all blocks that count; and the child."""
    child = load_child(case.child).requires_grad_(True)
    *theirs, p = everything(load_parent(case.parent), ids_GT)
    *ours, q = everything(child, ids_GT)
    kld = (p.exp() * (p - q)).sum(-1)[at_GT].mean()
    angles = [F.cosine_similarity(a[at_GT], b[at_GT], dim=-1) for a, b in zip(ours, theirs, strict=True)]
    before = at_GT[:, :-1]
    lm = F.nll_loss(q[:, :-1][before], ids_GT[:, 1:][before])
    return [kld, 1 - torch.stack(angles).mean(), lm], child


@pytest.mark.parametrize(
    ("micro_batch", "weights"), [(1, (1, 1, 0.5)), (4, (0.5, 2.0, 0.25)), (6, (1, 1, 0.5)), (5, (0, 0, 1))]
)
@ROWS
def test_losses_and_gradients_are_means_over_the_positions_that_count(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro_batch: int, weights, rows
) -> None:
    """However the step is cut, though each block has another share of them. 4 and 5 do not divide its 6 blocks."""
    at_GT = rows.learned(slice(0, 6))
    assert (at_GT is None) == (rows is EVERY)
    if at_GT is None:
        at_GT = torch.ones(6, CONTEXT, dtype=torch.bool)
    else:
        assert len(set(at_GT.sum(1).tolist())) > 3
    expected, child = written_out(case, rows[0:6], at_GT)
    loss = sum(weight * each for weight, each in zip(weights, expected, strict=True))
    loss.backward()
    named = dict(zip(("kld", "cosine", "lm"), weights, strict=True))
    step, found = first_step(trainer_of(case, tmp_path, rows, micro_batch=micro_batch, **named), monkeypatch)
    cosine = float(expected[1].detach()) if weights[1] else 0
    wanted = {"loss": loss.item(), "kld": expected[0].item(), "cosine": cosine, "lm": expected[2].item()}
    assert {name: step[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    for name, weight in child.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-5)


def kept_bytes(trainer: Trainer) -> int:
    """Bytes that a forward and backward pass keeps for the gradients."""
    sizes: list[int] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        trainer.step(0)
    return sum(sizes)


@ROWS
def test_what_saves_memory_or_time_changes_what_is_promised_and_nothing_else(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows
) -> None:
    """Recomputing gives the same gradients from less memory; bfloat16 near ones, of float32 weights."""
    plain, exact = first_step(trainer_of(case, tmp_path, rows), monkeypatch)
    _, same = first_step(trainer_of(case, tmp_path, rows, recompute=True), monkeypatch)
    assert all(torch.equal(exact[name], same[name]) for name in exact)
    usual, little = (kept_bytes(trainer_of(case, tmp_path, rows, recompute=r)) for r in (False, True))
    assert little < 0.7 * usual
    other, near = first_step(trainer_of(case, tmp_path, rows, dtype="bf16"), monkeypatch)
    assert any(not torch.equal(exact[name], near[name]) for name in exact)
    assert [other[n] for n in ("kld", "cosine")] == pytest.approx([plain["kld"], plain["cosine"]], rel=0.05)
    one, two = (torch.cat([g.flatten() for g in each.values()]) for each in (exact, near))
    assert F.cosine_similarity(one, two, dim=0) > 0.99
    assert {gradient.dtype for gradient in near.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_steps_without_a_position_that_counts_change_nothing_and_fail_nowhere(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    step, found = first_step(trainer_of(case, tmp_path, some_rows(learned=0.0), dtype=dtype), monkeypatch)
    assert {step[name] for name in ("loss", "kld", "cosine", "lm")} == {0}
    assert all(not gradient.any() for gradient in found.values())
    student, teacher = Student(load_child(case.child)), Teacher(load_parent(case.parent))
    ids = EVERY[:1]
    assert student(ids, teacher(ids, True), None, torch.empty(0, dtype=torch.long)) == 0


def test_held_out_kl_is_of_the_positions_that_count(case: Case, tmp_path: Path) -> None:
    rows = some_rows(seed=3)
    trainer = trainer_of(case, tmp_path, rows, micro_batch=3)
    held_out = rows.part(0, 4)
    (kld, *_), _ = written_out(case, held_out[:], held_out.learned(slice(None)))
    for _ in range(2):  # the second time the parent's states are read
        assert trainer.heldout_kl() == pytest.approx(float(kld.detach()), rel=1e-5)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    micro=st.integers(1, 25),
    world=st.integers(1, 6),
    masked=st.booleans(),
)
def test_micro_batches_share_out_the_positions(
    counts: list[int], micro: int, world: int, masked: bool
) -> None:
    """Over all processes, which are equally long, every position that counts is there once, and each weighs the same."""
    ids = torch.arange(len(counts) * 6).reshape(-1, 6)
    learned = torch.tensor([[i < count or not masked for i in range(6)] for count in counts])
    each = [
        micro_batches(ids, learned if masked else None, micro, Ranks(rank, world)) for rank in range(world)
    ]
    assert len({len(mine) for mine in each}) == 1
    seen: list[int] = []
    for batch in (batch for mine in each for batch in mine if batch.share):
        assert len(batch.ids_BT) <= micro
        here = batch.ids_BT.flatten() if batch.learned_M is None else batch.ids_BT.flatten()[batch.learned_M]
        seen += here.tolist()
        assert batch.share == pytest.approx(len(here) / int(learned.sum()))
    assert sorted(seen) == ids[learned].tolist()


def test_a_run_on_chats_says_how_much_counted(tmp_path: Path) -> None:
    case = with_chats(make_case(tmp_path, tokens=640, batch=8))
    run(case, case.out, case.base / "work")
    record = json.loads((case.out / "uptrain.json").read_text())
    source = case.program.data["mix"], case.base, load_tokenizer(case.parent)
    rows = token_rows(*source, context=CONTEXT, tokens=CONTEXT * 44, seed=1, cache=tmp_path / "again")
    counted = rows.part(4).learned(slice(None))
    assert counted is not None and record["learned_tokens"] == int(counted.sum()) < record["tokens"] == 640
    assert record["heldout_kl_after"] <= record["heldout_kl_before"]
