"""`pzl library gc` cleans up. It reads the index only, so it loads no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.cli.main import run
from puzzledsl.pieces.store.library import Library
from puzzledsl.plan.bld import bld_plan
from tests.pieces.store.test_block_library import put, weights

PROGRAM = """\
parent tiny = shape(family: llama, layers: 2, hidden: 64, heads: 4, kv_heads: 2, head_dim: 16, intermediate: 128, vocab: 256)
space wide of tiny {
  attention = parent | noop
  ffn = parent | mlp(width: 50%) | linear
}
data corpus = text("corpus.txt")
bld pieces of wide { train = attention + ffn, tokens = 1Ki, data = corpus }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.pzl"
    file.write_text(PROGRAM)
    checked = check(file).program
    assert checked is not None
    library = Library(tmp_path / "build" / "library")
    for number, job in enumerate(bld_plan(checked, "pieces")):
        library.enter(library.write(job, weights(number), 0.5, 0.25, 8))
    put(library, "old")
    return file


def test_gc_removes_what_no_job_needs(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = program.parent / "build" / "library" / "old.safetensors"
    assert run(["library", "gc", str(program), "--dry-run"]) == 0
    assert old.exists() and "would remove 1 file," in capsys.readouterr().out
    assert run(["library", "gc", str(program)]) == 0
    assert "(old.safetensors)" in capsys.readouterr().out and not old.exists()


WITHOUT_TORCH = """
import sys
from puzzledsl.cli.main import run
code = run(sys.argv[1:])
assert 'torch' not in sys.modules
sys.exit(code)
"""


def test_it_loads_no_torch(program: Path) -> None:
    arguments = [sys.executable, "-c", WITHOUT_TORCH, "library", "gc", str(program)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
