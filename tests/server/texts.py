"""Texts of these tests, with `‸` where the cursor stands."""

from pathlib import Path

from puzzledsl.server.document import Document, Project

ROOT = Path(__file__).parents[2]
NEMOTRON = ROOT / "examples" / "nemotron51b.pzl"
CURSOR = "‸"

PROGRAM = """\
use "std/hardware.pzl" (h100_sxm)
## A small parent.
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
param headroom: Ratio = 95%
let few = 3
fn half(x) = x / 2
hardware h = h100_sxm(memory: 80GiB, gpus: 1, dtype: fp8, kv_cache: fp8)
scenario chat on h = batch(4, 128 -> 64)
space w of p {
  attention = gqa(kv_heads: 4 | 2 | 1) | noop
  ffn = mlp(width: 100% | 50%) | linear | noop
  layers[..1].attention -= noop
}
data d = text("*.txt")
bld b of w {
  train = attention + ffn
  tokens = 1k, loss = normalized_mse
}
score kl of b = replace_one(kl_divergence)
search cpsat of w {
  minimize kl
  let limit = headroom * h.memory
  require chat.memory <= limit because "it must fit"
  require count(ffn is noop) <= few
  for i in 1..3 { require layers[i].ffn is noop implies layers[i-1].ffn is not noop }
  solver = cpsat
}
assert half(4) == 2
"""
"""A program without mistakes. `cpsat` is a search and a word; both are meant."""


def opened(text: str, folder: Path, name: str = "program.pzl", project: Project | None = None) -> Document:
    """A text as an editor has it open; it need not be on disk."""
    project = project or Project(folders=[folder])
    path = folder / name
    return project.open(path.as_uri(), text, 1)


def marked(text: str, folder: Path, project: Project | None = None) -> tuple[Document, int, int]:
    """The text without its cursor, open, and where the cursor stood."""
    before, _, after = text.partition(CURSOR)
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return opened(before + after, folder, project=project), line, column


def place_of(text: str, word: str, nth: int = 0) -> tuple[int, int]:
    """Line and column of the `nth` time that a word stands in a text."""
    at = -1
    for _ in range(nth + 1):
        at = text.index(word, at + 1)
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
