"""A whole program on parents with mixtures of experts: pieces, healing, uptraining, and a checkpoint that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import puzzledsl as pzl
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.models.families.tensors import open_weights
from tests.tiny import MIXTURES, save_tiny, tiny_tokens

PROGRAM = """\
parent p = hf("parent")
space w of p {
  attention = parent | gqa(kv_heads: 1)
  ffn = parent | moe(experts: 3, top_k: 1) | noop
}
hardware here = measured(device: cpu, dtype: fp32)
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
bld pieces of w { tokens = 256, context = 16, calibration = 512, data = corpus, train = attention + ffn }
score kl of pieces = replace_one(kl_divergence, samples: 16)
search small of w { minimize kl, require count(ffn is moe(experts: 3, top_k: 1)) >= 2 }
uptrain final of small { loss = 1 * kld, tokens = 512, batch = 4, context = 16, dtype = fp32 }
export out of final = hf("out")
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", MIXTURES)
def test_pieces_uptraining_and_export(family: str, tmp_path: Path) -> None:
    extra: dict[str, Any] = {"mlp_only_layers": []} if family == "qwen3_moe" else {}
    save_tiny(tmp_path / "parent", family, **extra)
    (tmp_path / "train.txt").write_text("A sentence of some words, and another one. " * 300, "utf-8")
    file = tmp_path / "mixtures.pzl"
    file.write_text(PROGRAM, "utf-8")
    pzl.load(file).run()
    tokens = tiny_tokens(2, 12)
    ours = load_checkpoint(tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", trust_remote_code=True, dtype=torch.float32
    )
    with torch.no_grad():
        assert torch.equal(exported(tokens).logits, ours(tokens).logits)
    kinds = json.loads((tmp_path / "out" / "config.json").read_text())["block_configs"]
    smaller = [index for index, block in enumerate(kinds) if block["ffn"].get("num_experts") == 3]
    assert len(smaller) >= 2
    before = open_weights(next((tmp_path / "build").rglob("models/small")))
    for name, weight in open_weights(tmp_path / "out").items():
        if "experts" in name and name.split(".")[2] in map(str, smaller):
            assert not torch.equal(weight.read(), before[name].read()), name  # trained
