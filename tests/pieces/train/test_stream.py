"""BLD that keeps no activations makes the sweep's pieces, bit for bit: in one stage or several, interrupted or not."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, LocalTeam, Task, TeamSpec, WorkerLost
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.tables import Piece
from puzzledsl.models import placement as this_device
from puzzledsl.models.errors import UnfinishedWorkDamaged
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.train import layer_trainer, piece_state
from puzzledsl.pieces.train import run as bld_run
from puzzledsl.pieces.train import stream as streaming
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.stage import Enter
from puzzledsl.pieces.train.stream import MAX_LOSSES, stream
from puzzledsl.pieces.train.sweep import sweep
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.memory.bld import alone, sweeps_of
from puzzledsl.plan.memory.stage_plan import CPU_SHARE, Device
from tests.cases import more
from tests.interrupting import Interrupting, Recorder
from tests.pieces.train.bld_programs import contents, make_pieces, make_program
from tests.refused import refused

SHORT: dict[str, Any] = {
    "attention": (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention()),
    "ffn": (ParentFfn(), MlpFfn(width=16), LinearFfn()),
    "tokens": 320,  # five steps
    "calibration_tokens": 128,
}


class Elsewhere(Executor):
    """Workers in this process that are taken for remote ones, one of which is lost at the tasks that `lost_at` counts."""

    is_local, on = False, "elsewhere"

    def __init__(self, workers: int, lost_at: frozenset[int] = frozenset()) -> None:
        self._workers, self._lost_at = workers, lost_at
        self._tasks = itertools.count()
        self.teams: list[LocalTeam] = []

    def settled(self) -> int:
        return self._workers

    @contextmanager
    def open(self, spec: TeamSpec, progress: Progress) -> Iterator[LocalTeam]:
        with super().open(spec, progress) as team:
            run = team.run

            def counted(tasks: Iterable[Task]) -> Iterator[Task]:
                for task in tasks:
                    if next(self._tasks) in self._lost_at:
                        self._workers = max(1, self._workers - 1)
                        raise WorkerLost("killed")
                    yield task

            team.run = lambda tasks: run(counted(tasks))  # type: ignore[method-assign]
            self.teams.append(team)
            yield team


@pytest.fixture(autouse=True)
def often_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SAVED_STEPS", 2)


class Subject:
    """A program, and the pieces that a sweep makes."""

    def __init__(self, base: Path, **given: Any) -> None:
        self.base, self.program = base, make_program(base, **SHORT | given)
        self.jobs, self.shape = bld_plan(self.program, "b"), self.program.parents["p"].shape
        self.swept = self.made(base / "sweep")

    def made(
        self,
        build: Path,
        workers: int = 0,
        *,
        lost_at: Iterable[int] = (),
        progress: Progress | None = None,
    ) -> dict[str, bytes]:
        """The library's files: by workers elsewhere, or by the usual way in this process."""
        executor = Elsewhere(workers, frozenset(lost_at)) if workers else None
        return contents(make_pieces(self.program, self.base, str(build), progress, executor))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(tmp_path_factory.mktemp("swept"))


@pytest.mark.parametrize("workers", [1, *more(2), 3])
def test_the_pieces_are_those_of_the_sweep(workers: int, subject: Subject, tmp_path: Path) -> None:
    assert subject.made(tmp_path, workers) == subject.swept


@pytest.mark.parametrize("given", [{"mode": "coupled"}, {"tokens": 0}], ids=["coupled", "untrained"])
def test_coupled_pieces_and_untrained_ones_too(given: dict[str, Any], tmp_path: Path) -> None:
    subject = Subject(tmp_path, model={"layers": 2}, **given)
    assert subject.made(tmp_path / "stream", 2) == subject.swept


@pytest.mark.parametrize("first", [0, 7, 20, *more(3, 12, 25)])
def test_a_lost_worker_costs_nothing_but_time(first: int, subject: Subject, tmp_path: Path) -> None:
    """Two are lost of three: as their sizes are asked for, while they begin, and in training."""
    log = Recorder()
    assert subject.made(tmp_path, 3, lost_at={first, first + 12}, progress=log) == subject.swept
    assert len(log.named("worker_lost")) == 2


def test_pieces_stop_at_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early, for the steps are too small to change a weight; a lost worker's patience is not forgotten."""
    monkeypatch.setattr(layer_trainer, "MIN_INTERVAL", 1)
    subject = Subject(tmp_path, tokens=20 * 64, lr=nodes.Schedule(peak=1e-15), model={"layers": 2})
    pieces = Library(tmp_path / "sweep" / "library").pieces()
    trained = [p for p in pieces if p.job.init != "least_squares" or p.job.ffn != LinearFfn()]
    assert {piece.tokens for piece in trained} == {12 * 64}  # of 20 steps
    for workers, lost in ((1, {30}), (2, {40, 75})):
        assert subject.made(tmp_path / str(workers), workers, lost_at=lost) == subject.swept


def test_a_run_that_only_loses_workers_ends(subject: Subject, tmp_path: Path) -> None:
    for first in (0, 2):  # as workers are asked for their size, and later
        assert refused(subject.made, tmp_path, 1, lost_at=range(first, 10_000)).code == "E1424"
    assert MAX_LOSSES < 10


def test_an_interrupted_driver_goes_on_with_other_stages(subject: Subject, tmp_path: Path) -> None:
    for after, workers in ((1, 1), (3, 2), (4, 3)):
        with pytest.raises(KeyboardInterrupt):
            subject.made(tmp_path, workers, progress=Interrupting(after))
        assert [*(tmp_path / "work").glob("state/saved.json")]
    assert subject.made(tmp_path, 1) == subject.swept


def test_damaged_initial_weights_are_told(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        subject.made(tmp_path, 1, progress=Interrupting(3))
    for path in (tmp_path / "work").rglob("initial/*.safetensors"):
        path.write_bytes(b"damaged")
    assert refused(subject.made, tmp_path, 1).kind == UnfinishedWorkDamaged


def test_a_stage_reads_no_layer_but_its_own(subject: Subject, tmp_path: Path) -> None:
    executor = Elsewhere(3)
    make_pieces(subject.program, subject.base, str(tmp_path), executor=executor)
    seen = [stage._model.__dict__["pages"].present for stage in executor.teams[-1].members]
    assert seen == [("model.embed_tokens", "model.layers.0"), ("model.layers.1",), ("model.layers.2",)]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(bld_run.shutil, "disk_usage", lambda _: usage)


@pytest.mark.usefixtures("full_disk")
def test_without_room_for_activations_none_are_kept(subject: Subject, tmp_path: Path) -> None:
    log = Recorder()
    assert subject.made(tmp_path, progress=log) == subject.swept
    assert len(log.named("streaming")) == 1 and len(log.named("piece")) == len(subject.jobs)


def test_training_that_ends_in_no_number_keeps_the_other_pieces(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = piece_state.normalized_mse
    monkeypatch.setattr(piece_state, "normalized_mse", lambda *arguments: loss(*arguments) * torch.nan)
    with pytest.raises(DiagnosticError) as caught:
        subject.made(tmp_path, 2)
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} == {"E1411"}
    pieces = Library(tmp_path / "library").pieces()
    assert len(pieces) == 3 and {piece.job.ffn for piece in pieces} == {LinearFfn()}


# ---------------------------------------------------------------- passes


@pytest.mark.usefixtures("full_disk")
def test_pieces_that_do_not_fit_together_are_made_in_passes(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 1.5 * max(alone(subject.shape, job, cpu(0)) for job in subject.jobs) / CPU_SHARE
    monkeypatch.setattr(this_device, "free_bytes", lambda _: int(room))
    passes: list[int] = []

    def counted(order: Order, *arguments: Any) -> None:
        passes.append(len(order.jobs))
        stream(order, *arguments)

    monkeypatch.setattr(bld_run, "stream", counted)
    assert subject.made(tmp_path) == subject.swept
    assert len(passes) > 1 and sum(passes) == len(subject.jobs)


def test_sweeps_share_their_activations_and_go_on_from_them(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time the hidden states of two layers are on the disk, however many sweeps there are."""
    held, parts = 4 * total_params(subject.shape), list[int]()
    rooms = range(0, 1 << 30, 10_000)
    room = next(free for free in rooms if sweeps_of(subject.shape, subject.jobs, cpu(free + held)))
    monkeypatch.setattr(this_device, "free_bytes", lambda _: room)

    def counted(model: Any, order: Order, *arguments: Any) -> None:
        parts.append(len(order.jobs))
        sweep(model, order, *arguments)
        assert len([*(tmp_path / "work").rglob("hidden-*.bin")]) <= 2

    def cut(model: Any, order: Order, enter: Enter, *arguments: Any) -> None:
        entered: list[int] = []

        def entering(piece: Piece, kept: str) -> None:
            if entered and piece.job.layer > 1:
                raise KeyboardInterrupt
            entered.append(piece.job.layer)
            enter(piece, kept)

        sweep(model, order, entering, *arguments)

    monkeypatch.setattr(bld_run, "sweep", cut)
    with pytest.raises(KeyboardInterrupt):
        subject.made(tmp_path)
    monkeypatch.setattr(bld_run, "sweep", counted)
    assert subject.made(tmp_path) == subject.swept
    assert len(parts) > 1


def cpu(memory_bytes: int) -> Device:
    return Device("cpu", False, memory_bytes, 0, "fp32", 1.0, 1.0, 1)
