"""BLD makes every piece, never a worse one than it started with, and the same bytes however often it is killed."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, LayerDefinition, ModelDefinition, Piece
from puzzledsl.models import placement as placing
from puzzledsl.models import placement as this_device
from puzzledsl.models.families.access import layers as layers_of
from puzzledsl.models.families.access import norm_behind
from puzzledsl.models.families.load import load_parent
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train import run as bld_run
from puzzledsl.pieces.train.piece_state import MicroBatches, PieceState, normalized_mse
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.plan.bld import bld_plan
from tests.assembled import assemble
from tests.blocks import token_blocks
from tests.interrupting import Interrupting
from tests.pieces.train.bld_programs import make_program, write_text
from tests.tiny import FAMILIES, tiny_tokenizer

SHORT: dict[str, Any] = {"tokens": 128, "calibration_tokens": 128}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(
    program: nodes.Program, base: Path, build: str = "build", progress: Progress | None = None
) -> Library:
    library = Library(base / build / "library")
    work = base / build / "work" / "bld" / "b"
    run_bld(
        StageInputs(
            program, "b", base / "parent", base, library, bld_plan(program, "b"), work, progress or Silent()
        )
    )
    return library


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if not path.name.startswith(".")}


def held_out(program: nodes.Program, base: Path) -> torch.Tensor:
    budget = Budget.of(program.blds["b"])
    tokens = budget.blocks * budget.context
    blocks = token_blocks(
        program.data["mix"], base, tiny_tokenizer(), context=budget.context, tokens=tokens, seed=budget.seed
    )
    return blocks[budget.calibration + budget.training :]


@torch.no_grad()
def measured_loss(base: Path, piece: Piece, library: Library, tokens: torch.Tensor) -> float:
    """Normalised MSE of what a piece's sub-block (or block) adds, from a whole parent and a whole child."""
    job = piece.job
    parent = load_parent(base / "parent")
    child = load_parent(base / "parent")
    count = int(parent.config.num_hidden_layers)
    layers = [LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())] * count
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


@pytest.mark.parametrize("family", FAMILIES)
def test_every_piece_fits_and_has_the_loss_it_says(family: str, tmp_path: Path) -> None:
    program = make_program(tmp_path, family, **SHORT)
    library = run(program, tmp_path)
    jobs = bld_plan(program, "b")
    pieces = {piece.job.id: piece for piece in library.pieces()}
    assert set(pieces) == {job.id for job in jobs} and len(jobs) == 18
    tokens = held_out(program, tmp_path)
    for job in jobs:
        piece = pieces[job.id]
        assert piece.job == job and piece.loss_final <= piece.loss_initial
        assert {name: tuple(t.shape) for name, t in library.load(job.id).items()} == job.shapes
        if job.layer == 1:
            loss = measured_loss(tmp_path, piece, library, tokens)
            assert piece.loss_final == pytest.approx(loss, rel=1e-3, abs=1e-6)
    assert not (tmp_path / "build" / "work" / "bld" / "b").exists()


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi3"])
def test_coupled_pieces_are_trained_on_the_whole_block(family: str, tmp_path: Path) -> None:
    attention = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
    ffn = (ParentFfn(), MlpFfn(width=16), LinearFfn())
    program = make_program(
        tmp_path, family, mode="coupled", attention=attention, ffn=ffn, model={"layers": 2}, **SHORT
    )
    library = run(program, tmp_path)
    jobs = bld_plan(program, "b")
    pieces = {piece.job.id: piece for piece in library.pieces()}
    assert set(pieces) == {job.id for job in jobs} and len(jobs) == 2 * (9 - 2)
    tokens = held_out(program, tmp_path)
    for job in jobs:
        assert {name: tuple(t.shape) for name, t in library.load(job.id).items()} == job.shapes
        assert pieces[job.id].loss_final <= pieces[job.id].loss_initial
        loss = measured_loss(tmp_path, pieces[job.id], library, tokens)
        assert pieces[job.id].loss_final == pytest.approx(loss, rel=1e-3)


def test_enough_training_makes_pieces_better(tmp_path: Path) -> None:
    attention, ffn = (ParentAttention(), GqaAttention(kv_heads=1)), (ParentFfn(), MlpFfn(width=24))
    settings = {"tokens": 2048, "calibration_tokens": 512, "lr": nodes.Schedule(peak=1e-2, warmup=0.1)}
    library = run(make_program(tmp_path, attention=attention, ffn=ffn, **settings), tmp_path)
    assert len(library.pieces()) == 6
    for piece in library.pieces():
        assert piece.loss_final < 0.97 * piece.loss_initial and piece.tokens == 2048


def steps_of(base: Path, peak: float) -> tuple[nodes.Program, list[dict[str, Any]]]:
    """A run of 320 steps at this rate: the program, and what is said of its pieces."""
    settings = {
        "tokens": 320 * 16 * 4,
        "calibration_tokens": 512,
        "lr": nodes.Schedule(peak=peak, warmup=0.1),
    }
    program = make_program(
        base,
        attention=(ParentAttention(),),
        ffn=(ParentFfn(), MlpFfn(width=16)),
        model={"layers": 1},
        **settings,
    )
    write_text(base, 12000)
    logged: list[dict[str, Any]] = []

    class Log(Silent):
        def log(self, event: str, **fields: object) -> None:
            if event == "piece":
                logged.append(fields)

    run(program, base, "build", Log())
    return program, logged


def test_a_student_that_learns_nothing_more_stops_early(tmp_path: Path) -> None:
    """Steps too small to change a weight: examined every 20, from the warm-up's end, and patient for five."""
    _, (piece,) = steps_of(tmp_path, 1e-15)
    assert piece["tokens"] == (40 + 5 * 20) * 64 and piece["kept"] == "initial"


def test_a_student_that_still_learns_is_taught_to_the_end(tmp_path: Path) -> None:
    _, (piece,) = steps_of(tmp_path, 1e-3)
    assert piece["tokens"] == 320 * 64 and piece["kept"] == "trained"


def test_a_stopped_student_has_the_weights_of_its_best_examination() -> None:
    class Student:
        """A number that is to be 0; its held-out loss is its square."""

        job = type("Job", (), {"lr": nodes.Schedule(peak=1.0)})
        needs_training = True

        def __init__(self) -> None:
            self.trained = torch.nn.Linear(1, 1, bias=False)

        def weights(self) -> dict[str, torch.Tensor]:
            return {"weight": self.trained.weight.detach().clone()}

        def forward(self, hidden: torch.Tensor, trace: object) -> torch.Tensor:
            return self.trained.weight.detach()

        def target(self, trace: object) -> torch.Tensor:
            return torch.zeros(1, 1)

    student: Any = Student()
    piece = PieceState(student, steps=100)
    for done, value in enumerate((5.0, 2.0, 1.0, 3.0, 2.0, 1.5, 1.1, 1.0)):
        assert not piece.stopped
        piece.done = done
        torch.nn.init.constant_(student.trained.weight, value)
        piece.observe(torch.zeros(1), student)
        piece.judge()
    assert piece.stopped and float(student.weights()["weight"]) == 1.0 and piece.done == 7


def test_a_ruinous_rate_keeps_the_initial_weights(tmp_path: Path) -> None:
    ffn = (ParentFfn(), MlpFfn(width=24))
    program = make_program(
        tmp_path, attention=(ParentAttention(),), ffn=ffn, lr=nodes.Schedule(peak=1e3), **SHORT
    )
    untrained = make_program(
        tmp_path, attention=(ParentAttention(),), ffn=ffn, tokens=0, calibration_tokens=128
    )
    ruined, initial = run(program, tmp_path, "a"), run(untrained, tmp_path, "b")
    for job, plain in zip(bld_plan(program, "b"), bld_plan(untrained, "b"), strict=True):
        kept, made = ruined.load(job.id), initial.load(plain.id)
        assert all(torch.equal(kept[name], made[name]) for name in kept)
    assert all(piece.loss_final == piece.loss_initial for piece in ruined.pieces())
    assert all(piece.tokens == 0 for piece in initial.pieces())


def test_linear_pieces_by_least_squares_are_not_trained(tmp_path: Path) -> None:
    attention, ffn = (ParentAttention(), LinearAttention()), (ParentFfn(), LinearFfn())
    program = make_program(tmp_path, attention=attention, ffn=ffn, **SHORT)
    assert {piece.tokens for piece in run(program, tmp_path, "solved").pieces()} == {0}


# ---------------------------------------------------------------- resuming


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    whole = content(run(program, tmp_path, "whole").root)
    for after in (2, 8, 8, 12):
        with pytest.raises(KeyboardInterrupt):
            run(program, tmp_path, "cut", Interrupting(after))
    assert content(run(program, tmp_path, "cut").root) == whole


def _killed_at(base: Path, program: str, batches: int) -> None:
    torch.set_num_threads(1)
    original, seen = MicroBatches.through, []

    def through(*given: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) > batches:
            os._exit(9)
        return original(*given)

    MicroBatches.through = through  # type: ignore[method-assign]
    run(nodes.Program.from_json(program), base, "killed")


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    program = make_program(tmp_path, ffn=(ParentFfn(), MlpFfn(width=24)), **SHORT)
    whole = content(run(program, tmp_path, "whole").root)
    # held out, two steps, held out again: in the middle of layer 1
    arguments = (tmp_path, program.canonical_json(), 6)
    process = multiprocessing.get_context("spawn").Process(target=_killed_at, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 9
    left = sorted(path.name for path in (tmp_path / "killed" / "work" / "bld" / "b").glob("hidden-*.bin"))
    assert left == ["hidden-1.bin"]
    assert 0 < len(Library(tmp_path / "killed" / "library").pieces()) < len(bld_plan(program, "b"))
    assert content(run(program, tmp_path, "killed").root) == whole


def test_only_what_is_missing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path, **SHORT)
    library = run(program, tmp_path)
    whole = content(library.root)
    jobs = bld_plan(program, "b")
    (library.root / f"{jobs[0].id}.safetensors").unlink()
    damaged = library.root / f"{jobs[-1].id}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0\0")
    made: list[str] = []
    original = Library.write
    monkeypatch.setattr(
        Library, "write", lambda self, job, *a, **k: made.append(job.id) or original(self, job, *a, **k)
    )
    assert content(run(program, tmp_path).root) == whole
    assert sorted(made) == sorted((jobs[0].id, jobs[-1].id))
    monkeypatch.setattr(bld_run, "reachable_parent", lambda *_, **__: pytest.fail("nothing is to be made"))
    run(program, tmp_path)


def test_another_parent_or_text_makes_everything_anew(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    first = content(run(program, tmp_path).root)
    (tmp_path / "text.txt").write_text("lo mi su ka ra ne to\n\n" * 200)
    second = content(run(program, tmp_path).root)
    assert set(first) == set(second) and all(first[name] != second[name] for name in first)


# ---------------------------------------------------------------- mistakes


def failure(program: nodes.Program, base: Path) -> tuple[str, str]:
    with pytest.raises(DiagnosticError) as caught:
        run(program, base)
    return caught.value.diagnostics[0].code, caught.value.diagnostics[0].message


def test_mistakes_are_diagnostics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(make_program(tmp_path, tokens=10**7), tmp_path)[0] == "E1204"
    assert failure(make_program(tmp_path, data=None), tmp_path)[0] == "E1401"
    usage = type("Usage", (), {"free": 10_000})
    with monkeypatch.context() as patch:
        patch.setattr(bld_run.shutil, "disk_usage", lambda _: usage)
        patch.setattr(this_device, "free_bytes", lambda _: -(1 << 40))  # nor can any piece be trained
        for _ in range(2):
            code, message = failure(make_program(tmp_path, **SHORT), tmp_path)
            assert code == "E1402" and "9.766KiB is free" in message
    moe = MoeFfn(experts=4, top_k=1, width=8)
    assert failure(make_program(tmp_path, ffn=(ParentFfn(), moe), **SHORT), tmp_path)[0] == "E0711"


def test_jobs_of_several_budgets_are_refused(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    jobs: list[BldJob] = [
        job.model_copy(update={"tokens": 64 * (i + 1)}) for i, job in enumerate(bld_plan(program, "b"))
    ]
    with pytest.raises(ValueError, match="one token budget"):
        run_bld(
            StageInputs(
                program,
                "b",
                tmp_path / "parent",
                tmp_path,
                Library(tmp_path / "l"),
                jobs,
                tmp_path / "w",
                Silent(),
            )
        )


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
    program = make_program(tmp_path, mode=mode, tokens=128, calibration_tokens=2048)
    library = run(program, tmp_path)
    pieces = list(library.pieces())
    assert len(pieces) == len(bld_plan(program, "b"))
    for piece in pieces:
        assert math.isfinite(piece.loss_initial) and piece.loss_final <= piece.loss_initial
        assert all(weight.dtype == torch.bfloat16 for weight in library.load(piece.job.id).values())
    assert any(piece.loss_final < piece.loss_initial for piece in pieces)
