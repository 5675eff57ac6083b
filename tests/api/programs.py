"""A program that needs no weights, with its scores beside it."""

from pathlib import Path

import pytest

import puzzledsl as pzl

PROGRAM = """\
use "std/hardware.pzl" (h100_sxm)
param speedup: Ratio = 1.3x
parent llama = shape(family: llama, layers: 6, hidden: 1024, heads: 8, kv_heads: 4, head_dim: 128,
  intermediate: 4096, vocab: 32000, tied: false)
space wide of llama {
  attention = parent | gqa(kv_heads: 2) | noop
  ffn = parent | mlp(width: 2048) | noop
}
hardware h100 = h100_sxm(gpus: 1, dtype: fp8, kv_cache: fp8)
scenario chat on h100 = batch(32 | 64, 128 -> 256)
score kl of wide = table("kl.csv")
search best of wide {
  minimize kl
  require chat.throughput >= speedup because "half the fleet"
  require layers[0].attention is parent
}
search none of wide {
  minimize kl
  require params >= 95% * llama.params
  require chat.throughput >= 1.6x because "half the fleet"
}
space narrow of wide = used_by(best, top: 1)
frontier curve of best = sweep(chat.throughput, 1x..4x, points: 4)
"""


def write_program(folder: Path, text: str = PROGRAM) -> Path:
    """The program and its score table; returns the `.pzl` file."""
    rows = ["layer,attention,ffn,kl"]
    for layer in range(6):
        rows += [f"{layer},gqa2,,0.0{layer + 1}", f"{layer},noop,,0.{layer + 1}"]
        rows += [f"{layer},,mlp2048,0.0{layer + 2}", f"{layer},,noop,0.{layer + 3}"]
    (folder / "kl.csv").write_text("\n".join(rows) + "\n")
    file = folder / "p.pzl"
    file.write_text(text)
    return file


@pytest.fixture
def program(tmp_path: Path) -> pzl.Program:
    """The program, loaded."""
    return pzl.load(write_program(tmp_path))
