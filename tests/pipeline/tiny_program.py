"""A whole program on a random 3-layer parent: every stage runs in seconds, and nothing in it is timed, so its files are exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.forked import pzl
from tests.tiny import save_tiny

SOURCE = """\
parent tiny = hf("parent")
space wide of tiny {
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | linear | noop
}
hardware toy {
  memory = 1GB, bandwidth = 1GB/s, link = 1GB/s
  peak { fp32 = 1GFLOP/s }
  dtype = fp32, kv_cache = fp32, embedding = fp32
  efficiency { compute = 60%, bandwidth = 90%, attention = 30%, link = 70% }
  overhead = 1us, link_latency = 1us, reserve = 1MB, kv_fraction = 90%, page = 16, max_batch = 8
}
scenario chat on toy = batch(1, 16 -> 16)
data corpus = text("corpus.txt")
bld pieces of wide {
  train = attention + ffn
  tokens = 512, context = 32, batch = 2, calibration = 512
  lr = cosine(1e-3, warmup: 10%), data = corpus
}
score kl of pieces = replace_one(kl_divergence, samples: 128)
search best of wide {
  minimize kl
  require chat.throughput >= 1.2x
}
search greedy of best { prefer -params }
search most   of best { maximize params }
uptrain final of best {
  loss = 1 * kld + 1 * cosine
  tokens = 512, context = 32, batch = 2, lr = cosine(1e-3), data = corpus
}
eval quality of final = tasks("items.jsonl") { data = corpus, tokens = 256 }
export ship of final = hf("out")
"""


def write_tiny_program(directory: Path) -> Path:
    """The program, its parent, its text and its tasks; returns the `.pzl` file."""
    save_tiny(directory / "parent", layers=3)
    words = "the cat sat on a mat while seven dogs ran past an old red barn and nobody saw them go".split()
    sentences = [
        " ".join(words[(i * 7 + j * (i % 5 + 1)) % len(words)] for j in range(12)) for i in range(240)
    ]
    documents = [". ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]
    (directory / "corpus.txt").write_text("\n\n".join(documents))
    items = [
        {"context": f"number {i}", "choices": ["goes on", "stops", "is odd", "is even"], "answer": i % 4}
        for i in range(6)
    ]
    (directory / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    program = directory / "tiny.pzl"
    program.write_text(SOURCE)
    return program


def run_with(directory: Path, more: str) -> Path:
    """The program as far as its first search, then `more`, run to its end; returns the build directory."""
    program = write_tiny_program(directory)
    text = program.read_text()
    program.write_text(text[: text.index("search greedy")] + more)
    result = pzl("run", program, timeout=600)
    assert result.returncode == 0, result.stderr
    return directory / "build"


def read(path: Path) -> Any:
    """Read an artefact's JSON."""
    return json.loads(path.read_text())
