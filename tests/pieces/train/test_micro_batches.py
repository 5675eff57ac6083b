"""Micro-batches give the whole batch's step but for rounding, and running out of memory costs neither a step nor a piece."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from puzzledsl.base.progress import Progress
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import LayerTrace
from puzzledsl.pieces.train import piece_state
from puzzledsl.pieces.train import run as bld_run
from puzzledsl.pieces.train.layer_trainer import Order, walk_layers
from puzzledsl.pieces.train.piece_state import EVALUATE, STEP, MicroBatches, PieceState
from puzzledsl.pieces.train.stage import Enter
from puzzledsl.pieces.train.student import Student
from puzzledsl.plan.bld import bld_plan
from tests.interrupting import Recorder
from tests.pieces.train.bld_programs import contents, make_pieces, make_program
from tests.refused import refused
from tests.tiny import tiny_model, tiny_tokens

SHORT: dict[str, Any] = {"tokens": 320, "calibration_tokens": 128, "model": {"layers": 2}}  # five steps


def test_statistics_of_a_layer_are_sums_over_its_tokens() -> None:
    model, tokens = tiny_model(), tiny_tokens(4, 8)
    ((_, found),) = walk_layers(model, [tokens[:2], tokens[2:]], layers=[0])
    runner = LayerRunner(model)
    trace = runner.trace_layer(0, runner.embed(tokens))
    for gram, x, y in (
        (found.attention, trace.attention_input, trace.attention_output),
        (found.ffn, trace.ffn_input, trace.ffn_output),
    ):
        flat_x, flat_y = (each.flatten(0, 1).double() for each in (x, y))
        torch.testing.assert_close(gram.xx, flat_x.T @ flat_x, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gram.xy, flat_x.T @ flat_y, rtol=1e-5, atol=1e-5)
    assert found.tokens == tokens.numel() and len(found.calls) == 2


class Layer:
    """Layer 1 of a tiny parent, its pieces, and a batch [4, 16, H] that enters it."""

    def __init__(self, base: Path) -> None:
        program = make_program(base, **SHORT)
        self.model = load_parent(base / "parent")
        self.runner = LayerRunner(self.model)
        tokens = torch.randint(4, 260, (8, 16), generator=torch.Generator().manual_seed(0))
        statistics = dict(walk_layers(self.model, [tokens[:4], tokens[4:]], layers=[0]))
        shape, init = program.parents["p"].shape, program.spaces["w"].init
        jobs = [job for job in bld_plan(program, "b") if job.layer == 0]
        students = [Student.build(job, self.model, statistics[0], init, shape) for job in jobs]
        self.pieces = [PieceState(student, steps=5) for student in students]
        for piece in self.pieces:
            if piece._optimizer is not None:  # AdamW's first steps would take the sign of a rounding error
                piece._optimizer = torch.optim.SGD(piece.student.trained.parameters(), lr=0.0)
        self.hidden = self.runner.embed(tokens[:4])

    def stepped(self, blocks: int) -> dict[str, Tensor]:
        """All pieces' weights after two steps, and their held-out losses."""
        micro = MicroBatches(self.runner, blocks)
        leaving = [micro.through(0, self.pieces, self.hidden, visit) for visit in (STEP, STEP, EVALUATE)]
        assert all(torch.allclose(leaving[0], other) for other in leaving)
        found = {"leaving": leaving[0]}
        for number, piece in enumerate(self.pieces):
            found |= {f"{number} {name}": weight for name, weight in piece.student.weights().items()}
            found[f"{number} loss"] = torch.tensor(piece._errors.normalized_mse)
        return found


def test_a_piece_in_training_reads_its_initial_weights_where_it_is_told(tmp_path: Path) -> None:
    pieces, told = Layer(tmp_path).pieces, dict[str, Tensor]()
    for piece in pieces:
        own = piece.initial
        piece.keep_initial_elsewhere(lambda: told)
        assert piece.initial() is told if piece._optimizer is not None else piece.initial is own
    assert any(piece._optimizer is not None for piece in pieces)


def test_micro_batches_take_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    whole = Layer(tmp_path).stepped(4)
    for blocks in (3, 2, 1):
        parts = Layer(tmp_path).stepped(blocks)
        assert parts.keys() == whole.keys()
        for name, value in whole.items():
            torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_dot_products_are_within_what_cublas_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    child, parent = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = piece_state.normalized_mse(child, parent)
    lengths, dot = [], torch.dot
    monkeypatch.setattr(piece_state, "LONGEST_DOT", 10)
    monkeypatch.setattr(torch, "dot", lambda a, b: lengths.append(len(a)) or dot(a, b))
    torch.testing.assert_close(piece_state.normalized_mse(child, parent), whole)
    assert lengths and max(lengths) <= 10


# ---------------------------------------------------------------- out of memory


@pytest.mark.parametrize("making", ["sweep", "stream"])
def test_what_does_not_fit_one_sequence_is_made_in_more_passes(
    making: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program(tmp_path, **SHORT)
    expected = contents(make_pieces(program, tmp_path, "whole"))
    disk = 1 << 40 if making == "sweep" else 10_000
    monkeypatch.setattr(bld_run.shutil, "disk_usage", lambda _: type("Usage", (), {"free": disk}))
    name = "_swept" if making == "sweep" else "_streamed"
    make_part, parts = getattr(bld_run, name), []

    def failing(model: Any, part: Order, enter: Enter, progress: Progress) -> None:
        if len(part.jobs) > 6:
            raise torch.OutOfMemoryError("out of memory")
        parts.append(len(part.jobs))
        kept = [path for path in (tmp_path / "parts" / "work").rglob("state") if path.is_dir()]
        assert not kept, "a finished pass takes no disk"
        make_part(model, part, enter, progress)

    monkeypatch.setattr(bld_run, name, failing)
    log = Recorder()
    assert contents(make_pieces(program, tmp_path, "parts", log)) == expected
    assert sum(parts) == len(bld_plan(program, "b")) and max(parts) <= 6
    assert len(parts) == len(log.named("memory")) + 1


def test_a_single_piece_that_does_not_fit_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Student.forward

    def failing(self: Student, hidden_BSH: Tensor, trace: LayerTrace) -> Tensor:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError(f"out of memory with {len(hidden_BSH)} sequences")
        return forward(self, hidden_BSH, trace)

    monkeypatch.setattr(Student, "forward", failing)
    assert refused(make_pieces, make_program(tmp_path, **SHORT), tmp_path).code == "E1403"
