"""`pzl library`: lists, verifies, cleans up. It reads the index only, so it loads no torch."""

from __future__ import annotations

import json
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


def test_ls_shows_every_piece(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["library", "ls", str(program), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["layer"], r["alternative"]) for r in rows if r["id"] != "old"] == [
        (layer, name) for layer in (0, 1) for name in ("mlp64", "linear")
    ]
    assert run(["library", "ls", str(program)]) == 0
    out = capsys.readouterr().out
    assert "mlp64" in out and "5 pieces" in out


def test_verify_exits_with_1_and_names_the_file(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["library", "verify", str(program)]) == 0
    assert capsys.readouterr().out == "5 pieces are whole\n"
    (program.parent / "build" / "library" / "old.safetensors").write_bytes(b"x")
    assert run(["library", "verify", str(program)]) == 1
    err = capsys.readouterr().err
    assert "E1302" in err and "old.safetensors" in err


def test_gc_removes_what_no_job_needs(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = program.parent / "build" / "library" / "old.safetensors"
    assert run(["library", "gc", str(program), "--dry-run"]) == 0
    assert old.exists() and "would remove 1 file," in capsys.readouterr().out
    assert run(["library", "gc", str(program), "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["removed"]] == ["old"]
    assert not old.exists()
    assert run(["library", "verify", str(program)]) == 0


WITHOUT_TORCH = """
import sys
from puzzledsl.cli.main import run
code = run(sys.argv[1:])
assert 'torch' not in sys.modules
sys.exit(code)
"""


def test_listing_loads_no_torch(program: Path) -> None:
    for command in ("ls", "verify", "gc"):
        arguments = [sys.executable, "-c", WITHOUT_TORCH, "library", command, str(program)]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
