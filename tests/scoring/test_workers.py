"""Workers go up layers that nothing changes meanwhile."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import Workers
from puzzledsl.scoring.run import run_score
from tests.scoring.cases import Case, ElsewhereHere


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.of(tmp_path_factory.mktemp("workers"), model={"layers": 3})


@pytest.fixture
def three_threads(one_thread: None) -> None:
    torch.set_num_threads(3)


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

    expected = case.anew().canonical_json()
    monkeypatch.setattr(LayerRunner, "run_layer", look)
    assert case.anew().canonical_json() == expected
    assert len(own) == 3 and not alien


@pytest.mark.usefixtures("three_threads")
def test_a_parent_whose_weights_come_and_go_has_one_worker(
    case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = case.anew().canonical_json()
    asked = request.getfixturevalue("paged")
    assert case.anew().canonical_json() == expected
    with Workers(torch.device("cpu"), shared=False) as workers:
        assert workers.count == 1 and torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    case.forget()
    monkeypatch.setattr("puzzledsl.scoring.run.PAGED_PARTS", 2)
    elsewhere = replace(case.inputs("elsewhere"), executor=ElsewhereHere())
    assert run_score(elsewhere).canonical_json() == expected
    assert asked == [1, os.cpu_count()]


@pytest.mark.parametrize("method", [{"runs": (2, 2)}, {"healed": 64, "runs": (2, 2)}])
def test_workers_elsewhere_find_the_same(method: dict[str, Any], case: Case) -> None:
    """Each unit is a task of its own there, and the metrics are kept in the order of one process."""
    method = {"metric": "kl_divergence", "samples": 40, **method}
    expected = case.anew(**method).canonical_json()
    content = [path.read_bytes() for path in case.kept()]
    case.forget()
    there = replace(case.inputs("there", **method), executor=ElsewhereHere())
    assert run_score(there).canonical_json() == expected
    assert [path.read_bytes() for path in case.kept()] == content


@pytest.mark.usefixtures("three_threads")
def test_what_a_worker_raises_is_raised(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> dict[str, float]:
        raise MemoryError("no room for logits")

    monkeypatch.setattr("puzzledsl.scoring.measures.Divergence.figures", fail)
    with pytest.raises(MemoryError, match="no room for logits"):
        case.anew()
    assert torch.get_num_threads() == 3
