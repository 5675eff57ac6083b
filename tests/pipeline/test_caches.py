"""From text to a file: types of KV caches are scored, searched, built, refined and exported, and no piece is made for them."""

import json
from pathlib import Path

import pytest

from puzzledsl.base.progress import Silent
from puzzledsl.export.verify import verify_gguf
from tests.pipeline.tiny_program import ran, read, write_tiny_program
from tests.tiny import save_tiny

CHOICE = """\
  attention = parent(kv_cache: full | q8_0) | gqa(kv_heads: 1, kv_cache: full | q8_0)
  ffn = parent | mlp(width: 50%)
"""
MORE = """\
uptrain final of best { loss = 1 * kld, tokens = 512, context = 32, batch = 2, lr = cosine(1e-4), data = corpus }
export ship of final = gguf("child.gguf", dtype: f32)
export kept of best = hf("kept")
"""


@pytest.mark.more
@pytest.mark.states("space.kv-cache", "space.kv-cache-one")
def test_a_program_with_types_runs_to_its_exports(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path, MORE)
    save_tiny(tmp_path / "parent", layers=3, hidden=64, head_dim=32)
    text = program.read_text()
    text = text[: text.index("  attention =")] + CHOICE + text[text.index("}\nhardware toy") :]
    text = text.replace("chat.throughput >= 1.2x", "chat.kv_cache <= 0.3x")
    program.write_text(text.replace("minimize kl", "minimize kl, refine = measured(2)"))
    shown = ran("run", program)
    assert "llama-server -m" in shown and "-ctk q8_0 -ctv q8_0 -fa on" in shown
    build = tmp_path / "build"
    scores = read(build / "scores" / "kl.json")["attention"]
    assert [set(layer) for layer in scores] == [{"parent@kv_q8_0", "gqa1", "gqa1@kv_q8_0"}] * 3
    assert all(0 < layer["parent@kv_q8_0"] < layer["gqa1"] for layer in scores)
    names = {file.stem for file in (build / "library").glob("*.safetensors")}
    assert len(names) == 3 * 2, "a piece for `gqa1` and for `mlp` in each layer"
    for folder in (build / "models" / "final", tmp_path / "kept"):
        blocks = json.loads((folder / "config.json").read_text())["block_configs"]
        assert [block["attention"]["kv_cache"] for block in blocks] == ["q8_0"] * 3
    verified = verify_gguf(build / "models" / "final", tmp_path / "child.gguf", Silent())
    assert verified.status == "equal", verified
