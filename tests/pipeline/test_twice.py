"""Compress twice: a program makes a child, and a second program, whose parent is that child, makes a child of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.export.engines.worker import run
from tests.oracle_forward import oracle_logits
from tests.pipeline.tiny_program import ran, write_tiny_program
from tests.tiny import save_tiny, tiny_tokens

TRAINING = """\
data corpus = text("corpus.txt")
bld pieces of wide {
  train = attention + ffn
  tokens = 256, context = 32, batch = 2, calibration = 256
  lr = cosine(1e-3, warmup: 10%), data = corpus
}
score kl of pieces = replace_one(kl_divergence, samples: 64)
"""
FIRST = f"""\
parent tiny = hf("parent")
space wide of tiny {{
  attention = gqa(kv_heads: 1)
  ffn = mlp(width: 75%)
  layers[0].attention = noop
  layers[1].attention = linear
  layers[2].ffn = linear
  layers[3].ffn = noop
  layers[4].attention = parent
}}
{TRAINING}
search best of wide {{ minimize kl }}
"""
SECOND = f"""\
parent child = hf("build/models/best")
space wide of child {{
  attention = parent | gqa(kv_heads: 1) | noop
  ffn = parent | mlp(width: 50%) | noop
}}
{TRAINING}
search again of wide {{
  minimize kl
  require params <= 25000
}}
uptrain finer of again {{
  loss = 1 * kld + 1 * cosine
  tokens = 256, context = 32, batch = 2, lr = cosine(1e-3), data = corpus
}}
eval quality of finer {{ data = corpus, tokens = 256 }}
export decilm of finer = hf("decilm")
export vllm   of finer = hf("vllm", runtime: vllm, lower: true)
export gguf   of finer = gguf("child.gguf", dtype: f32, lower: true)
export mlx    of finer = mlx("mlx")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both programs, of which the first has run."""
    folder = tmp_path_factory.mktemp("twice")
    write_tiny_program(folder)
    shutil.rmtree(folder / "parent")
    save_tiny(folder / "parent", layers=5)
    (folder / "first.pzl").write_text(FIRST)
    (folder / "second.pzl").write_text(SECOND)
    ran("run", folder / "first.pzl", "-o", folder / "build")
    return folder


@pytest.fixture(scope="module")
def second(folder: Path) -> Path:
    """The build of the second program."""
    ran("run", folder / "second.pzl", "-o", folder / "build2")
    return folder / "build2"


def test_every_exporter_accepts_the_grandchild(folder: Path, second: Path) -> None:
    config = json.loads((folder / "decilm/config.json").read_text())
    assert config["base_model_type"] == "llama" and "parent_blocks" not in config
    tokens = tiny_tokens(1, 12)
    oracle = oracle_logits(folder / "decilm", tokens[0].tolist())
    stock = AutoModelForCausalLM.from_pretrained(
        folder / "decilm", trust_remote_code=True, dtype=torch.float32
    )
    expected = stock.eval()(tokens).logits
    assert torch.equal(load_child(second / "models/finer")(tokens).logits, expected)
    np.testing.assert_allclose(expected[0].detach().numpy(), oracle, atol=2e-5 * np.abs(oracle).max())
    for engine, name in (("transformers", "vllm"), ("llama_cpp", "child.gguf"), ("mlx", "mlx")):
        asked = {"models": [str(folder / name)], "prompts": [tokens[0].tolist()], "steps": 4, "context": 64}
        logits = run(engine, asked | {"threads": 1, "dtype": "float32"})[1]["logits.0.0"]
        np.testing.assert_allclose(logits, oracle[: len(logits)], rtol=0, atol=2e-5 * np.abs(oracle).max())
