"""An installed package's attention with a cache: a search over any batch counts its bytes, and so does the verifier."""

import json
from pathlib import Path

from tests.plugins.conftest import install, runner

PROGRAM = """\
use "std/hardware.pzl" (rtx4090)
parent p = hf("nowhere", shape: shape(family: llama, layers: 2, hidden: 4096, heads: 32, kv_heads: 8, head_dim: 128,
  intermediate: 14336, vocab: 32000))
space w of p { attention = parent | shared_keys(kv_heads: 1 | 2, window: 512 | 100000) | noop }
scenario chat on rtx4090 = batch(auto, 4Ki -> 1Ki)
score kl of w = table("kl.csv")
search best of w {
  minimize kl
  require chat.batch >= 1200
  solver = cpsat(time: 300s)
}
"""
SCORES = {"shared_keys1w512": 3, "shared_keys1w100000": 2, "shared_keys2w512": 2.5, "shared_keys2w100000": 1}


def test_a_search_over_any_batch_counts_its_cache(tmp_path: Path) -> None:
    rows = [f",{name},,{score}" for name, score in {**SCORES, "noop": 9}.items()]
    (tmp_path / "kl.csv").write_text("\n".join(["layer,attention,ffn,kl", *rows, ""]))
    (tmp_path / "cached.pzl").write_text(PROGRAM)
    python = runner(install(tmp_path / "site", Path(__file__).parent / "shared_keys"))
    ran = python("-m", "puzzledsl.cli.main", "solve", "cached.pzl", "best", "--json", cwd=tmp_path)
    [solved] = json.loads(ran.stdout)
    (solution,) = solved["solutions"]
    chosen = {layer["attention"] for layer in solution["layers"]}
    assert solved["status"] == "optimal" and chosen & set(SCORES)
    assert solution["metrics"]["chat.kv_cache"] > 0 and solution["metrics"]["chat.batch"] >= 1200
