"""Text written on a pretended GPU: the batch is on the device, and the process's other random numbers stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.progress import Silent
from puzzledsl.ir import nodes
from puzzledsl.sampling import documents
from puzzledsl.sampling.documents import SampleInputs, run_sample
from tests.pretended_gpu.gpu import Gpu
from tests.tiny import save_tiny


def test_a_parent_writes_on_a_gpu(tmp_path: Path, pretended: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ROWS", 4)
    parent = save_tiny(tmp_path / "parent", layers=2)
    found = []
    for name in ("one", "two"):
        source = nodes.SampledData(parent="tiny", tokens=150, length=12)
        given = (parent, tmp_path, tmp_path / f"{name}.jsonl", tmp_path / "work", Silent())
        found.append(run_sample(SampleInputs(source, "d", None, *given)).read_bytes())  # type: ignore[arg-type]
    assert found[0] == found[1] and found[0].count(b"\n") > 3
