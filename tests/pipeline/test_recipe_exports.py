"""Whole-file recipes at the end of a run: weighed by inputs on the text that children are healed on, or pieces fitted to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from puzzledsl.export.write import write_export
from tests.cases import more
from tests.pipeline.test_run import pzl
from tests.pipeline.tiny_program import write_tiny_program
from tests.tiny import save_tiny

pytest.importorskip("llama_cpp_py_sync")
PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny { attention = parent | noop, ffn = parent | mlp(width: 50%) }
data corpus = text("corpus.txt")
bld pieces of wide {
  train = attention + ffn
  tokens = 256, context = 32, batch = 2, calibration = 256, heal = HEAL
  lr = cosine(1e-3, warmup: 10%), data = corpus
}
score kl of pieces = replace_one(kl_divergence, samples: 64)
search best of wide { minimize kl, require params <= 90% * tiny.params }
export small of best = gguf("small.gguf", dtype: q4_0, lower: true)
"""


@pytest.mark.parametrize("heal", [256, *more(0)])
def test_the_file_is_weighed_by_as_much_text_as_is_read(tmp_path: Path, heal: int) -> None:
    write_tiny_program(tmp_path)
    shutil.rmtree(tmp_path / "parent")
    save_tiny(tmp_path / "parent", layers=2, hidden=64, intermediate=64)
    (tmp_path / "small.pzl").write_text(PROGRAM.replace("HEAL", str(heal)))
    result = pzl("run", tmp_path / "small.pzl", "-o", tmp_path / "build")
    assert result.returncode == 0, result.stderr
    plain = tmp_path / "plain.gguf"
    write_export(tmp_path / "build/models/best", plain, "gguf", "llama_cpp", "q4_0", name="small")
    assert plain.read_bytes() != (tmp_path / "small.gguf").read_bytes()


SERVED = """
hardware served = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario chat on served = batch(1, 8 -> 4)
export served_so of best = gguf("usual.gguf", lower: true)
export other of best = gguf("other.gguf", dtype: f32, lower: true)
"""


@pytest.mark.states("export.formats")
def test_a_file_has_the_type_that_is_measured_unless_it_names_one(tmp_path: Path) -> None:
    write_tiny_program(tmp_path)
    shutil.rmtree(tmp_path / "parent")
    save_tiny(tmp_path / "parent", layers=2, hidden=64, intermediate=64)
    (tmp_path / "small.pzl").write_text(PROGRAM.replace("HEAL", "0").replace("dtype: q4_0", "dtype: q8_0"))
    assert pzl("run", tmp_path / "small.pzl", "-o", tmp_path / "build").returncode == 0
    (tmp_path / "small.pzl").write_text((tmp_path / "small.pzl").read_text() + SERVED)
    result = pzl("export", tmp_path / "small.pzl", "served_so", "other", "-o", tmp_path / "build")
    assert result.returncode == 0, result.stderr
    usual, named = (tmp_path / "usual.gguf").read_bytes(), (tmp_path / "small.gguf").read_bytes()
    assert len(usual) == pytest.approx(len(named), abs=256)  # they are called otherwise
    assert len((tmp_path / "other.gguf").read_bytes()) > 2 * len(usual)
