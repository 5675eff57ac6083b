"""BLD makes every piece, never a worse one than it started with, and the same bytes however often it is killed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition, Piece
from puzzledsl.models import placement as placing
from puzzledsl.models.families.access import layers as layers_of
from puzzledsl.models.families.access import norm_behind
from puzzledsl.models.families.load import load_parent
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train import run as bld_run
from puzzledsl.pieces.train.piece_state import normalized_mse
from puzzledsl.plan.bld import bld_plan
from tests.assembled import assemble
from tests.blocks import token_blocks
from tests.interrupting import Interrupting, Recorder
from tests.pieces.train.bld_programs import contents, make_pieces, make_program, write_text
from tests.refused import refused
from tests.tiny import FAMILIES, tiny_tokenizer

SHORT: dict[str, Any] = {"tokens": 128, "calibration_tokens": 128}
FEW: dict[str, Any] = {
    "attention": (ParentAttention(), GqaAttention(kv_heads=1)),
    "ffn": (ParentFfn(), MlpFfn(width=24)),
}
PAIRS: dict[str, Any] = {
    "mode": "coupled",
    "attention": (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention()),
    "ffn": (ParentFfn(), MlpFfn(width=16), LinearFfn()),
    "model": {"layers": 2},
}


def held_out(program: nodes.Program, base: Path) -> torch.Tensor:
    budget = Budget.of(program.blds["b"])
    given = {"context": budget.context, "tokens": budget.blocks * budget.context, "seed": budget.seed}
    blocks = token_blocks(program.data["mix"], base, tiny_tokenizer(), **given)
    return blocks[budget.calibration + budget.training :]


@torch.no_grad()
def measured_loss(base: Path, piece: Piece, library: Library, tokens: torch.Tensor) -> float:
    """Normalised MSE of what a piece's sub-block (or block) adds, from a whole parent and a whole child."""
    job = piece.job
    parent, child = (load_parent(base / "parent") for _ in range(2))
    plain = LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())
    layers = [plain] * int(parent.config.num_hidden_layers)
    layers[job.layer] = LayerDefinition(
        attention=job.attention or ParentAttention(),
        ffn=job.ffn or ParentFfn(),
        attention_piece=job.id if job.sub_block == "attention" else None,
        ffn_piece=job.id if job.sub_block == "ffn" else None,
        block_piece=job.id if job.sub_block == "block" else None,
    )
    assemble(child, ModelDefinition(name="c", search="c", parent="p", layers=tuple(layers)), library.load)
    outputs = []
    for model in (parent, child):
        seen: dict[str, torch.Tensor] = {}

        def tap(name: str, output: Any, seen: dict[str, torch.Tensor] = seen) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        layer = model.model.layers[job.layer]
        for part, module in (("attention", layer.self_attn), ("ffn", layer.mlp)):
            module = norm_behind(layers_of(model)[job.layer], part) or module
            module.register_forward_hook(lambda _m, _i, out, tap=tap, part=part: tap(part, out))
        model(tokens, use_cache=False)
        outputs.append(seen["attention"] + seen["ffn"] if job.sub_block == "block" else seen[job.sub_block])
    target, output = (o.double() for o in outputs)
    return float((output - target).square().sum() / target.square().sum())


@pytest.mark.parametrize(
    ("family", "given", "count"),
    [
        *((family, {}, 18) for family in FAMILIES),
        *((family, PAIRS, 2 * (9 - 2)) for family in ("llama", "gemma3_text", "phi3")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_piece_fits_and_has_the_loss_it_says(
    family: str, given: dict[str, Any], count: int, tmp_path: Path
) -> None:
    """Coupled pieces are trained on the whole block."""
    program = make_program(tmp_path, family, **given, **SHORT)
    library, jobs = make_pieces(program, tmp_path), bld_plan(program, "b")
    pieces = {piece.job.id: piece for piece in library.pieces()}
    assert set(pieces) == {job.id for job in jobs} and len(jobs) == count
    tokens = held_out(program, tmp_path)
    for job in jobs:
        piece = pieces[job.id]
        assert piece.job == job and piece.loss_final <= piece.loss_initial
        assert {name: tuple(t.shape) for name, t in library.load(job.id).items()} == job.shapes
        if job.layer == 1:
            loss = measured_loss(tmp_path, piece, library, tokens)
            assert piece.loss_final == pytest.approx(loss, rel=1e-3, abs=1e-6)


def test_enough_training_makes_pieces_better(tmp_path: Path) -> None:
    lr = nodes.Schedule(peak=1e-2, warmup=0.1)
    library = make_pieces(make_program(tmp_path, **FEW, tokens=2048, calibration_tokens=512, lr=lr), tmp_path)
    assert len(library.pieces()) == 6
    for piece in library.pieces():
        assert piece.loss_final < 0.97 * piece.loss_initial and piece.tokens == 2048


def test_training_moves_the_router_and_the_experts_of_a_mixture(tmp_path: Path) -> None:
    ffn = [ParentFfn(), MoeFfn(experts=4, top_k=2, width=8)]
    given = {"attention": [ParentAttention()], "ffn": ffn, "model": {"layers": 1, "mlp_only_layers": []}}
    untrained, trained = (
        make_pieces(make_program(tmp_path, "qwen3_moe", **given, tokens=tokens), tmp_path, str(tokens))
        for tokens in (0, 2048)
    )
    (first,), (last,) = untrained.pieces(), trained.pieces()
    assert last.loss_final < last.loss_initial
    before, after = untrained.load(first.job.id), trained.load(last.job.id)
    assert set(before) == set(after) == set(first.job.shapes)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "gate.weight" in moved
    assert {name.split(".")[1] for name in moved if name.startswith("experts.")} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("peak", "tokens", "kept"), [(1e-15, (40 + 5 * 20) * 64, "initial"), (1e-3, 320 * 64, "trained")]
)
def test_a_student_that_learns_nothing_more_stops_early(
    tmp_path: Path, peak: float, tokens: int, kept: str
) -> None:
    """Steps too small to change a weight: examined every 20, from the warm-up's end, and patient for five. Others go on."""
    program = make_program(
        tmp_path,
        attention=(ParentAttention(),),
        ffn=(ParentFfn(), MlpFfn(width=16)),
        model={"layers": 1},
        tokens=320 * 16 * 4,
        calibration_tokens=512,
        lr=nodes.Schedule(peak=peak, warmup=0.1),
    )
    write_text(tmp_path, 12000)
    log = Recorder()
    make_pieces(program, tmp_path, progress=log)
    (piece,) = log.named("piece")
    assert (piece["tokens"], piece["kept"]) == (tokens, kept)


def test_a_ruinous_rate_keeps_the_initial_weights(tmp_path: Path) -> None:
    given = {
        "attention": (ParentAttention(),),
        "ffn": (ParentFfn(), MlpFfn(width=24)),
        "calibration_tokens": 128,
    }
    program = make_program(tmp_path, **given, tokens=128, lr=nodes.Schedule(peak=1e3))
    untrained = make_program(tmp_path, **given, tokens=0)
    ruined, initial = make_pieces(program, tmp_path, "a"), make_pieces(untrained, tmp_path, "b")
    for job, plain in zip(bld_plan(program, "b"), bld_plan(untrained, "b"), strict=True):
        kept, made = ruined.load(job.id), initial.load(plain.id)
        assert all(torch.equal(kept[name], made[name]) for name in kept)
    assert all(piece.loss_final == piece.loss_initial for piece in ruined.pieces())
    assert all(piece.tokens == 0 for piece in initial.pieces())


# ---------------------------------------------------------------- resuming


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    program = make_program(tmp_path, **FEW, **SHORT)
    whole = contents(make_pieces(program, tmp_path, "whole"))
    for after in (1, 3, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            make_pieces(program, tmp_path, "cut", Interrupting(after))
    assert contents(make_pieces(program, tmp_path, "cut")) == whole


def test_only_what_is_missing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path, **FEW, **SHORT)
    library, jobs = make_pieces(program, tmp_path), bld_plan(program, "b")
    whole = contents(library)
    (library.root / f"{jobs[0].id}.safetensors").unlink()
    damaged = library.root / f"{jobs[-1].id}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0\0")
    made: list[str] = []
    original = Library.write
    monkeypatch.setattr(
        Library, "write", lambda self, job, *a, **k: made.append(job.id) or original(self, job, *a, **k)
    )
    assert contents(make_pieces(program, tmp_path)) == whole
    assert sorted(made) == sorted((jobs[0].id, jobs[-1].id))
    monkeypatch.setattr(bld_run, "reachable_parent", lambda *_, **__: pytest.fail("nothing is to be made"))
    make_pieces(program, tmp_path)


def test_another_parent_or_text_makes_everything_anew(tmp_path: Path) -> None:
    program = make_program(tmp_path, **FEW, **SHORT)
    first = contents(make_pieces(program, tmp_path))
    (tmp_path / "text.txt").write_text("lo mi su ka ra ne to\n\n" * 200)
    second = contents(make_pieces(program, tmp_path))
    assert set(first) == set(second) and all(first[name] != second[name] for name in first)


# ---------------------------------------------------------------- mistakes


def test_mistakes_are_diagnostics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failure(**given: Any) -> tuple[str, str]:
        found = refused(make_pieces, make_program(tmp_path, **given), tmp_path)
        return found.code, found.message

    assert failure(tokens=10**7)[0] == "E1204"
    assert failure(data=None)[0] == "E1401"
    usage = type("Usage", (), {"free": 10_000})
    with monkeypatch.context() as patch:
        patch.setattr(bld_run.shutil, "disk_usage", lambda _: usage)
        patch.setattr(placing, "free_bytes", lambda _: -(1 << 40))  # nor can any piece be trained
        for _ in range(2):
            code, message = failure(**FEW, **SHORT)
            assert code == "E1402" and "9.766KiB is free" in message
    moe = MoeFfn(experts=4, top_k=1, width=8)
    assert failure(ffn=(ParentFfn(), moe), **SHORT)[0] == "E0711"


def test_the_loss_is_what_it_says() -> None:
    parent = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    child = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    assert float(normalized_mse(child, parent)) == pytest.approx(5 / 29)
    wanted = torch.autograd.functional.jacobian(lambda c: (c - parent).square().sum() / 29, child)
    assert torch.allclose(
        torch.autograd.functional.jacobian(lambda c: normalized_mse(c, parent), child), wanted
    )
    assert float(normalized_mse(torch.zeros_like(parent), parent)) == 1


@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_pieces_of_a_parent_that_fits_in_bfloat16_only(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU that is too small for float32. What is trained is float32; what is stored is the parent's dtype."""
    monkeypatch.setattr(placing, "placement", lambda directory: (torch.device("cpu"), torch.bfloat16))
    given = PAIRS if mode == "coupled" else FEW
    library = make_pieces(make_program(tmp_path, **given, tokens=128, calibration_tokens=2048), tmp_path)
    pieces = library.pieces()
    for piece in pieces:
        assert math.isfinite(piece.loss_initial) and piece.loss_final <= piece.loss_initial
        assert all(weight.dtype == torch.bfloat16 for weight in library.load(piece.job.id).values())
    assert any(piece.loss_final < piece.loss_initial for piece in pieces)
