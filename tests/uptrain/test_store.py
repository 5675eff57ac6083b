"""Sets of tensors on disk: whole as they were saved, or not there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.uptrain import state
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, join_alone, leave
from puzzledsl.uptrain.state import Store


def test_a_file_cut_anywhere_is_not_read(tmp_path: Path) -> None:
    Store(tmp_path).save("state", {"one": torch.arange(500.0)}, {"step": "3"})
    dice = random.Random(0)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for cut in (0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(20))):
            path.write_bytes(content[:cut])
            assert Store(tmp_path).contents("state") is None
            with pytest.raises(DiagnosticError):
                Store(tmp_path).load("state", {"one": torch.zeros(500)})
        path.write_bytes(content)
    assert Store(tmp_path).contents("state") == ({"one"}, {"step": "3"})


@pytest.mark.parametrize("during", ["save_file", "sha256_of", "write_sealed"])
def test_killed_while_a_set_is_written_the_old_one_stays(tmp_path: Path, monkeypatch, during: str) -> None:
    kept = Store(tmp_path)
    kept.save("state", {"one": torch.zeros(3)}, {"step": "1"})

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state, during, killed)
        with pytest.raises(KeyboardInterrupt):
            kept.save("state", {"one": torch.ones(3)}, {"step": "2"})
    again = Store(tmp_path)
    assert again.contents("state") == ({"one"}, {"step": "1"})
    again.save("state", {"one": torch.ones(3)}, {"step": "3"})
    assert again.contents("state") == ({"one"}, {"step": "3"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-1-0.safetensors", "state.json"]


def test_tensors_cut_over_one_process_are_kept(tmp_path: Path) -> None:
    """As FSDP's are, which moves a child's state to the host of a single GPU."""
    join_alone()
    try:
        cut: list[DTensor] = [
            distribute_tensor(each, SINGLE_PROCESS.mesh(), [Shard(0)])
            for each in (torch.arange(6.0).view(3, 2), torch.zeros(3, 2))
        ]
        kept = Store(tmp_path)
        kept.save("state", {"one": cut[0]}, {})
        kept.load("state", {"one": cut[1]})
        assert torch.equal(cut[1].to_local(), torch.arange(6.0).view(3, 2))
    finally:
        leave()
