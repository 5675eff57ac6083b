"""Workers go up layers that nothing changes meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import ReplaceOne
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import paged_parent
from puzzledsl.scoring import run as subject
from puzzledsl.scoring.run import run_score
from tests.pieces.train.bld_programs import make_program
from tests.scoring.cases import Case, ElsewhereHere
from tests.scoring.test_replace_one import SETTINGS, figures_of, forget


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, make_program(tmp_path, "llama", model={"layers": 3}, **SETTINGS))


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_no_layer_is_changed_while_a_worker_runs_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer that a worker runs is the parent's own and not observed, whatever stands in it in between."""
    own: dict[int, Any] = {}
    alien: list[int] = []
    real = LayerRunner.run_layer

    def look(
        self: LayerRunner, layer_idx: int, hidden_BSH: torch.Tensor, other: nn.Module | None = None
    ) -> torch.Tensor:
        layer = self._model.model.layers[layer_idx]
        now = (layer.self_attn, layer.mlp, layer.input_layernorm, layer.post_attention_layernorm)
        if threading.current_thread() is not threading.main_thread():
            if own.setdefault(layer_idx, now) != now:
                alien.append(layer_idx)
            threading.Event().wait(0.003)  # gives the caller time to come up from below
            if layer.self_attn._forward_hooks:
                alien.append(layer_idx)
        elif layer.self_attn._forward_hooks:
            threading.Event().wait(0.05)  # gives workers time to come by
        return real(self, layer_idx, hidden_BSH, other)

    expected = case.score().canonical_json()
    forget(case)
    monkeypatch.setattr(LayerRunner, "run_layer", look)
    assert case.score().canonical_json() == expected
    assert len(own) == 3 and not alien


@pytest.mark.usefixtures("three_threads")
def test_a_parent_whose_weights_come_and_go_has_one_worker(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.score().canonical_json()
    forget(case)
    asked: list[int] = []

    def paged(parent_dir: Path, progress: Progress, *, once: bool, processes: int = 1) -> PreTrainedModel:
        asked.append(processes)
        return paged_parent(parent_dir, room_bytes=0, keep_head=True)[0]

    monkeypatch.setattr(subject, "reachable_parent", paged)
    assert case.score().canonical_json() == expected
    with Workers(torch.device("cpu"), shared=False) as workers:
        assert workers.count == 1 and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    forget(case)
    monkeypatch.setattr("puzzledsl.scoring.run.PAGED_PARTS", 2)
    elsewhere = replace(case.inputs("elsewhere"), executor=ElsewhereHere())
    assert run_score(elsewhere).canonical_json() == expected
    assert asked == [1, os.cpu_count()]


@pytest.mark.parametrize("method", [{"runs": (2, 2)}, {"healed": 64, "runs": (2, 2)}])
def test_workers_elsewhere_find_the_same(method: dict[str, Any], case: Case) -> None:
    """Each unit is a task of its own there, and the metrics are kept in the order of one process."""
    method = {"metric": "kl_divergence", "samples": 40, **method}
    forget(case)
    expected, kept = case.score("here", **method).canonical_json(), figures_of(case)
    content = [path.read_bytes() for path in kept]
    forget(case)
    declared = case.program.scores["s"].model_copy(update={"method": ReplaceOne(**method)})
    program = case.program.model_copy(update={"scores": {"s": declared}})
    there = replace(case.inputs("there"), program=program, executor=ElsewhereHere())
    assert run_score(there).canonical_json() == expected
    assert [path.read_bytes() for path in figures_of(case)] == content


@pytest.mark.usefixtures("three_threads")
def test_what_a_worker_raises_is_raised(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, float]:
        raise MemoryError("no room for logits")

    monkeypatch.setattr("puzzledsl.scoring.measures.Divergence.figures", fail)
    with pytest.raises(MemoryError, match="no room for logits"):
        case.score()
    assert torch.get_num_threads() == 3
