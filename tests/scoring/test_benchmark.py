"""Scores at a size at which products are fast ones, packed and fused: as `benchmarks.stage1_score` compares them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.stage1_score import DIFFERENCE, small
from puzzledsl.models.kernels import attention as gated


@pytest.mark.more
@torch.inference_mode()
def test_they_are_those_of_whole_forward_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fused: list[int] = []
    real = gated.gated

    def count(x: torch.Tensor, *rest: object) -> torch.Tensor:
        fused.append(x.numel())
        return real(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gated, "gated", count)
    subject = small(tmp_path, 512)
    sample = subject.todo[5::24]
    found, expected = subject.sweep(sample), subject.whole(sample)
    assert len(sample) >= 2 and fused
    assert found == pytest.approx(expected, abs=DIFFERENCE)
    assert min(expected) > 10 * DIFFERENCE
