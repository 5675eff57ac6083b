"""Times of a hybrid's sub-blocks: each alternative in layers of its own kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.ir.tables import CostTable
from puzzledsl.measure import estimate
from tests.tiny import save_tiny

PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent
  ffn = parent
  layers[0, 2].attention = parent | linear | noop
  layers[1, 3].attention = parent | gqa(kv_heads: 1) | noop
  layers[0..3].ffn = parent | noop
}
hardware here = measured(device: cpu)
scenario chat on here = batch(1, 8 -> 4)
"""


def test_a_delta_net_and_an_attention_have_their_own_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)
    save_tiny(tmp_path / "parent", "qwen3_next", layers=4)
    program = tmp_path / "here.pzl"
    program.write_text(PROGRAM)
    assert run(["measure", str(program)]) == 0
    table = CostTable.from_json((tmp_path / "build" / "costs" / "wide.measured.json").read_bytes())
    attention = table.scenarios["chat"][0].attention
    assert attention[0] == attention[2] and attention[1] == attention[3]
    assert set(attention[0]) == {"parent", "linear", "noop"} and set(attention[1]) == {
        "parent",
        "gqa1",
        "noop",
    }
    assert attention[0]["parent"].decode_ns != attention[1]["parent"].decode_ns
    assert 0 < attention[0]["parent"].kv_cache_bytes != attention[1]["parent"].kv_cache_bytes > 0
