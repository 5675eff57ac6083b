"""Readings of config.json by others than the code that comes along: transformers, whoever goes by `ffn_mult`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.write import REMOTE_FILES
from tests.export.variants import MIXTURE, Variant, make

PLAIN = (ParentAttention(), ParentFfn())
LAYERS = (*MIXTURE, (GqaAttention(kv_heads=4, window=5), MlpFfn(width=512)), PLAIN)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(Variant(LAYERS, sizes={"head_dim": 8}), tmp_path_factory.mktemp("readers")).child


def test_ffn_mult_is_said_where_it_gives_the_width(child: Path) -> None:
    """A reader that goes by it rounds to multiples of 256: elsewhere it would take the wrong width, and finds none."""
    blocks = json.loads((child / "config.json").read_text())["block_configs"]
    assert [block["ffn"].get("ffn_mult") is not None for block in blocks] == [False] * 4 + [True, False]


def test_model_code_imports_nothing_of_the_package() -> None:
    """Files that are copied into checkpoints work without it; those of `child/checkpoint/remote` import each other."""
    for path in REMOTE_FILES.values():
        source = (resources.files("puzzledsl") / path).read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) puzzledsl", source, re.MULTILINE), path


@pytest.mark.more
def test_the_code_that_comes_along_needs_no_puzzledsl(child: Path, tmp_path: Path) -> None:
    """In an interpreter in which puzzledsl cannot be imported, transformers loads the child and generates."""
    script = tmp_path / "load.py"
    script.write_text(
        "import sys\n"
        "sys.modules['puzzledsl'] = None\n"
        "import torch\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(child)!r}, trust_remote_code=True)\n"
        "ids = torch.tensor([[5, 9, 200]])\n"
        "print(model.generate(ids, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=3).shape[1])\n"
    )
    done = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"
