"""The example's parent in a program of minutes on one core, with nothing in it that is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/smollm2"
SOURCE = """\
parent smollm = hf("parent")
space wide of smollm {
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | noop
  layers[..3, 7..] = parent
}
hardware toy {
  memory = 8GB, bandwidth = 10GB/s, link = 1GB/s
  peak { fp32 = 100GFLOP/s }
  dtype = fp32, kv_cache = fp32, embedding = fp32
  efficiency { compute = 60%, bandwidth = 90%, attention = 30%, link = 70% }
  overhead = 1us, link_latency = 1us, reserve = 1MB, kv_fraction = 90%, page = 16, max_batch = 8
}
scenario chat on toy = batch(8, 128 -> 128)
data mixed = text("data/train.txt")
data heldout = text("data/heldout.txt")
bld pieces of wide {
  train = attention + ffn
  tokens = 512, context = 128, batch = 2, calibration = 1Ki
  lr = cosine(1e-3, warmup: 10%), data = mixed
  heal = 1Ki
}
score kl of pieces = replace_one(kl_divergence, samples: 128, healed: 256)
search best of wide {
  minimize kl
  require chat.throughput >= 1.02x
}
uptrain final of best { loss = 1 * kld + 1 * cosine, tokens = 256, context = 128, data = mixed }
eval quality of final = tasks("data/hellaswag.jsonl", "data/piqa.jsonl") { items = 6, data = heldout, tokens = 256 }
"""


def write_demo_program(directory: Path) -> Path:
    """Write the program beside links to the example's parent and text; skip where `make demo` has not fetched them."""
    if not (EXAMPLE / "parent").is_dir() or not (EXAMPLE / "data").is_dir():
        pytest.skip("needs what `make demo` downloads")
    for name in ("parent", "data"):
        (directory / name).symlink_to((EXAMPLE / name).resolve())
    program = directory / "demo.pzl"
    program.write_text(SOURCE)
    return program
