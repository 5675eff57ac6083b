"""Programs that the page is tested with: bounds of every kind, in every place."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.explore.desk import Desk
from puzzledsl.explore.sheet import Sheet
from tests.api.programs import write_program

VARIED = """\
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
  require chat.throughput >= speedup because "half the fleet"  # the fleet is large
  require 80GiB >= chat.memory
  require 0.2x <= params <= 100% * llama.params
  require count(attention is noop) <= 4, require 2 * chat.throughput >= 3 tok/s
  require layers[0].attention is parent
  require distinct(ffn) <= 2
  require chat.memory <=
    200 * chat.weights
  for i in 2..4 { require layers[i].ffn.width <= 4096 }
  require params + 1M <= 180M
}
search inline of wide { minimize kl, require chat.throughput >= 1.2x }
search heir of inline { maximize params }
"""


def desk_of(folder: Path, text: str = VARIED) -> Desk:
    """A desk with a program that needs no weights."""
    return Desk(write_program(folder, text), None, {})


def sheet_of(folder: Path, search: str = "best", text: str = VARIED) -> Sheet:
    """One search of it."""
    return desk_of(folder, text).sheet(search)
