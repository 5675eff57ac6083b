"""`pzl verify-export` says of each engine what is so, and its exit code says whether all is well."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.cli.main import run
from puzzledsl.export import verify
from puzzledsl.ir.tables import EngineCheck
from tests.export.variants import MIXTURE, A, F, Made, Variant, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(MIXTURE), tmp_path_factory.mktemp("verify"))


def test_an_equal_child(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify-export", str(made.child), "--runtime", "llama_cpp"]) == 0
    said = capsys.readouterr().out
    assert "llama.cpp" in said and " equal " in said and "64/64" in said
    assert run(["verify-export", str(made.child), "--runtime", "llama_cpp", "--json"]) == 0
    check = EngineCheck.from_json(capsys.readouterr().out)
    assert [r.engine for r in check.results] == ["llama_cpp"]
    assert check.results[0].max_delta is not None and check.results[0].max_delta < 2e-5


def test_another_answer_is_found(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Were queries and keys written in transformers' order, the command would say so and fail."""
    monkeypatch.setattr("puzzledsl.export.gguf_file._paired", lambda weight, _: weight)
    assert run(["verify-export", str(made.child), "--runtime", "llama_cpp"]) == 1
    assert " differs " in capsys.readouterr().out


def test_what_an_engine_cannot_represent_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    child = make(Variant(((A, F), (GqaAttention(kv_heads=2, window=5, sinks=2), F))), tmp_path).child
    assert run(["verify-export", str(child), "--runtime", "llama_cpp"]) == 1
    said = capsys.readouterr().out
    assert "refused" in said and "`gqa2w5s2` (layer 1)" in said


def test_an_engine_that_is_not_there(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PZL_VLLM_VENV", str(tmp_path / "nowhere"))
    assert run(["verify-export", str(made.child), "--runtime", "vllm"]) == 1
    assert "vLLM 0.32 is not installed here" in capsys.readouterr().err
    assert run(["verify-export", str(made.child), "--runtime", "tensorrt"]) == 2
    assert run(["verify-export", str(tmp_path / "nowhere")]) == 1
    assert "E0701" in capsys.readouterr().err


def test_the_reference_is_the_oracle(made: Made) -> None:
    """`pzl verify-export` compares engines with a reference, which must equal the float64 oracle."""
    model = load_child(made.child, dtype=torch.float64)
    logits, greedy = verify.reference(model, made.prompt, len(made.greedy))
    assert np.abs(logits - made.logits).max() < 2e-6  # rotary embeddings are float32 in transformers
    assert greedy == made.greedy


ALONE = """
import sys
sys.modules["puzzledsl"] = None
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
ids = torch.tensor([[5, 9, 200]])
print(model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=3).shape[1])
"""


@pytest.mark.more
def test_the_code_that_comes_along_needs_no_puzzledsl(made: Made, tmp_path: Path) -> None:
    """In an interpreter in which puzzledsl cannot be imported, transformers loads the child and generates."""
    command = [sys.executable, "-I", "-c", ALONE, str(made.child)]
    assert subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout.strip() == b"7"
