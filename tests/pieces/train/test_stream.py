"""BLD that keeps no activations makes the sweep's pieces, bit for bit: in one stage or several, interrupted or not."""

from __future__ import annotations

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
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cluster.tasks import Executor, LocalTeam, Task, TeamSpec, WorkerLost
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.tables import Piece
from puzzledsl.models import placement as this_device
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train import layer_trainer, piece_state
from puzzledsl.pieces.train import run as bld_run
from puzzledsl.pieces.train import stream as streaming
from puzzledsl.pieces.train.layer_trainer import Order
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.pieces.train.stage import Enter
from puzzledsl.pieces.train.stream import MAX_LOSSES, stream
from puzzledsl.pieces.train.sweep import sweep
from puzzledsl.plan.bld import bld_plan
from puzzledsl.plan.memory.bld import alone, passes_of, sweeps_of, workers_of
from puzzledsl.plan.memory.stage_plan import CPU_SHARE, Device
from tests.interrupting import Interrupting
from tests.pieces.train.bld_programs import make_program

SHORT: dict[str, Any] = {"tokens": 320, "calibration_tokens": 128}  # five steps


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def make(
    program: nodes.Program,
    base: Path,
    build: str,
    workers: int = 0,
    *,
    lost_at: frozenset[int] = frozenset(),
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """The library's files: by the sweep where there are no `workers`."""
    executor = Elsewhere(workers, lost_at) if workers else Executor()
    library, work = Library(base / build / "library"), base / build / "work"
    jobs = bld_plan(program, "b")
    given = (program, "b", base / "parent", base, library, jobs, work, progress or Silent(), executor)
    run_bld(StageInputs(*given))
    assert len(library.pieces()) == len(jobs) and not work.exists()
    return {p.name: p.read_bytes() for p in library.root.iterdir() if not p.name.startswith(".")}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_pieces_are_those_of_the_sweep(workers: int, tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    assert make(program, tmp_path, "stream", workers) == make(program, tmp_path, "sweep")


class Log(Silent):
    """The names of all events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def log(self, event: str, **fields: object) -> None:
        self.events.append(event)


def test_coupled_pieces_and_untrained_ones_too(tmp_path: Path) -> None:
    attention = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
    ffn = (ParentFfn(), MlpFfn(width=16), LinearFfn())
    for name, more in (("coupled", {"mode": "coupled"}), ("untrained", {"tokens": 0})):
        base = tmp_path / name
        program = make_program(base, attention=attention, ffn=ffn, model={"layers": 2}, **SHORT | more)
        assert make(program, base, "stream", 2) == make(program, base, "sweep")


SLOW_PLACES = [pytest.param(step, marks=pytest.mark.slow) for step in (3, 12, 25)]


@pytest.mark.parametrize("first", [0, 7, 20, *SLOW_PLACES])
def test_a_lost_worker_costs_nothing_but_time(first: int, tmp_path: Path) -> None:
    """Two are lost of three: as their sizes are asked for, while they begin, and in training."""
    program, log = make_program(tmp_path, **SHORT), Log()
    lost_at = frozenset({first, first + 12})
    made = make(program, tmp_path, "stream", 3, lost_at=lost_at, progress=log)
    assert made == make(program, tmp_path, "sweep")
    assert log.events.count("worker_lost") == 2


def test_pieces_stop_at_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early, for the steps are too small to change a weight; a lost worker's patience is not forgotten."""
    monkeypatch.setattr(layer_trainer, "MIN_INTERVAL", 1)
    rate = nodes.Schedule(peak=1e-15)
    program = make_program(tmp_path, tokens=20 * 64, calibration_tokens=128, lr=rate, model={"layers": 2})
    swept = make(program, tmp_path, "sweep")
    pieces = Library(tmp_path / "sweep" / "library").pieces()
    assert {piece.tokens for piece in pieces if "linear" not in name_of(piece)} == {12 * 64}  # of 20 steps
    for workers, lost in ((1, {30}), (2, {40, 75})):
        assert make(program, tmp_path, str(workers), workers, lost_at=frozenset(lost)) == swept


def name_of(piece: Piece) -> str:
    made = piece.job.attention or piece.job.ffn
    assert made is not None
    return made.name


def test_a_run_that_only_loses_workers_ends(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    for first in (0, 2):  # as workers are asked for their size, and later
        with pytest.raises(DiagnosticError) as caught:
            make(program, tmp_path, "stream", 1, lost_at=frozenset(range(first, 10_000)))
        assert [problem.code for problem in caught.value.diagnostics] == ["E1424"]
    assert MAX_LOSSES < 10


def test_an_interrupted_driver_goes_on_with_other_stages(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    for after, workers in ((1, 1), (3, 2), (4, 3)):
        with pytest.raises(KeyboardInterrupt):
            make(program, tmp_path, "stream", workers, progress=Interrupting(after))
        assert [*(tmp_path / "stream" / "work").glob("state/saved.json")]
    assert make(program, tmp_path, "stream", 1) == make(program, tmp_path, "sweep")


def test_a_stage_reads_no_layer_but_its_own(tmp_path: Path) -> None:
    program, executor = make_program(tmp_path, **SHORT), Elsewhere(3)
    jobs, library = bld_plan(program, "b"), Library(tmp_path / "library")
    given = (
        program,
        "b",
        tmp_path / "parent",
        tmp_path,
        library,
        jobs,
        tmp_path / "work",
        Silent(),
        executor,
    )
    run_bld(StageInputs(*given))
    seen = [stage._model.__dict__["pages"].present for stage in executor.teams[-1].members]
    assert seen == [("model.embed_tokens", "model.layers.0"), ("model.layers.1",), ("model.layers.2",)]


def test_without_room_for_activations_none_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, events = make_program(tmp_path, **SHORT), []

    class Log(Silent):
        def log(self, event: str, **fields: object) -> None:
            events.append(event)

    swept = make(program, tmp_path, "sweep")
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(bld_run.shutil, "disk_usage", lambda _: usage)
    assert make(program, tmp_path, "stream", progress=Log()) == swept
    assert events.count("streaming") == 1 and events.count("piece") == len(bld_plan(program, "b"))


def test_training_that_ends_in_no_number_keeps_the_other_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program(tmp_path, **SHORT)
    loss = piece_state.normalized_mse
    monkeypatch.setattr(piece_state, "normalized_mse", lambda *arguments: loss(*arguments) * torch.nan)
    with pytest.raises(DiagnosticError) as caught:
        make(program, tmp_path, "stream", 2)
    assert {diagnostic.code for diagnostic in caught.value.diagnostics} == {"E1411"}
    pieces = Library(tmp_path / "stream" / "library").pieces()
    assert len(pieces) == 6 and {piece.job.init for piece in pieces} == {"least_squares"}


# ---------------------------------------------------------------- passes


def test_pieces_that_do_not_fit_together_are_made_in_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program(tmp_path, **SHORT)
    swept = make(program, tmp_path, "sweep")
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(bld_run.shutil, "disk_usage", lambda _: usage)
    jobs = bld_plan(program, "b")
    room = 1.5 * max(alone(shape_in(program), job, cpu(0)) for job in jobs) / CPU_SHARE
    monkeypatch.setattr(this_device, "free_bytes", lambda _: int(room))
    streamed: list[int] = []

    def counted(order: Order, *arguments: Any) -> None:
        streamed.append(len(order.jobs))
        stream(order, *arguments)

    monkeypatch.setattr(bld_run, "stream", counted)
    assert make(program, tmp_path, "passes") == swept
    assert len(streamed) > 1 and sum(streamed) == len(jobs)


def test_sweeps_share_their_activations_and_go_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time the hidden states of two layers are on the disk, however many sweeps there are."""
    program = make_program(tmp_path, **SHORT)
    whole = make(program, tmp_path, "sweep")
    jobs, parts = bld_plan(program, "b"), []
    shape = shape_in(program)
    held = 4 * total_params(shape)
    rooms = (free for free in range(0, 1 << 30, 10_000) if sweeps_of(shape, jobs, cpu(free + held)))
    room = next(rooms)
    monkeypatch.setattr(this_device, "free_bytes", lambda _: room)

    def counted(model: Any, order: Order, *arguments: Any) -> None:
        parts.append(len(order.jobs))
        sweep(model, order, *arguments)
        assert len([*(tmp_path / "sweeps" / "work").rglob("hidden-*.bin")]) <= 2

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
        make(program, tmp_path, "sweeps")
    monkeypatch.setattr(bld_run, "sweep", counted)
    assert make(program, tmp_path, "sweeps") == whole
    assert len(parts) > 1


def test_micro_batches_of_a_paged_parent_have_the_room_of_its_other_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, seen = make_program(tmp_path, **SHORT), []
    plan = bld_run.WorkerPlan
    monkeypatch.setattr(bld_run, "WorkerPlan", lambda *given: seen.append(given[2:]) or plan(*given))
    make(program, tmp_path, "whole")
    monkeypatch.setattr(bld_run, "is_paged", lambda model: True)
    make(program, tmp_path, "paged")
    spans = [(first, end, whole) for first, end, _, whole in seen]
    assert spans == [(n, n + 1, whole) for whole in (True, False) for n in range(len(spans) // 2)]


def cpu(memory_bytes: int, count: int = 1) -> Device:
    return Device("cpu", False, memory_bytes, 0, "fp32", 1.0, 1.0, count)


def shape_in(program: nodes.Program) -> nodes.Shape:
    return program.parents["p"].shape


def test_passes_are_few_whole_and_within_the_room(tmp_path: Path) -> None:
    program = make_program(tmp_path, **SHORT)
    jobs, shape = bld_plan(program, "b"), shape_in(program)
    least = max(
        worker.least_bytes for job in jobs for worker in workers_of(shape, [job], cpu(0)) if worker.jobs
    )
    counts = []
    for room in (least, 1.1 * least, 2 * least, 100 * least):
        device = cpu(int(room / CPU_SHARE) + 1)
        parts = passes_of(shape, jobs, device)
        assert parts is not None
        assert sorted(job.id for part in parts for job in part) == sorted(job.id for job in jobs)
        assert all(
            worker.least_bytes <= room + 1 for part in parts for worker in workers_of(shape, part, device)
        )
        counts.append(len(parts))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 1
    assert passes_of(shape, jobs, cpu(int((least - 100) / CPU_SHARE))) is None
