"""Files that llama.cpp's own quantiser makes of the parent, measured beside the child: in the artefact, terminal and report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from puzzledsl.child.checkpoint.contents import from_parent
from puzzledsl.cli.main import run
from puzzledsl.export.gguf_recipe import write_recipe
from puzzledsl.ir.measured_engines import LADDER, RECIPES
from puzzledsl.ir.tables import Evaluation, ModelFigures
from tests.pipeline.tiny_program import write_tiny_program
from tests.serving.test_clock import few
from tests.tiny import save_tiny

pytest.importorskip("llama_cpp_py_sync")
__all__ = ["few"]
PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny { attention = parent | noop, ffn = parent | mlp(width: 50%) }
hardware here = measured(engine: llama_cpp, dtype: f16, threads: 1)
scenario chat on here = batch(1, 8 -> 4)
data corpus = text("corpus.txt")
bld pieces of wide { train = attention + ffn, tokens = 0, context = 32, calibration = 256, data = corpus, heal = 256 }
score kl of pieces = replace_one(kl_divergence, samples: 64)
search best of wide { minimize kl, require params <= 90% * tiny.params }
eval quality of best = tasks("items.jsonl") { data = corpus, tokens = 512, prompts = none, ladder = LADDER }
"""


FEW = tuple(rung for rung in LADDER if "0" in rung.name)
"""The ladder without the K types and iq4_nl: many processes fewer."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_program(tmp_path)
    shutil.rmtree(tmp_path / "parent")
    save_tiny(tmp_path / "parent", layers=2, hidden=64, intermediate=64)
    return tmp_path


def program(folder: Path, ladder: str) -> Path:
    path = folder / "served.pzl"
    path.write_text(PROGRAM.replace("LADDER", ladder))
    return path


def test_every_file_is_measured_beside_the_child(folder, few, monkeypatch, capsys):
    monkeypatch.setattr("puzzledsl.serving.ladder.LADDER", FEW)
    assert run(["run", str(program(folder, "true"))]) in (0, 1)
    found = Evaluation.from_json((folder / "build/evals/quality.json").read_bytes())
    assert found.ladder is not None and found.ladder.child == "best"
    files = {model.model: model.figures for model in found.ladder.models}
    assert list(files) == [rung.name for rung in FEW]
    kl = {name: figures["kl"].value for name, figures in files.items()}
    assert 0 < kl["q8_0"] < kl["q4_0"] < kl["q4_0, head q4_0"]
    assert kl["q4_0"] != kl["q4_0, weighed"]
    assert all(figures["chat.throughput"].value > 0 for figures in files.values())
    own = folder / "own.gguf"
    write_recipe(from_parent(folder / "parent"), folder / "parent", own, RECIPES["q4_0"], name="q4_0")
    assert files["q4_0"]["checkpoint_bytes"].value == own.stat().st_size
    assert files["q4_0, head q4_0"]["checkpoint_bytes"].value < own.stat().st_size

    asked = {each.model for each in found.ladder.comparisons if each.kept}
    assert len(asked) == len(_next_to(found)) and asked <= set(files)
    shown = capsys.readouterr().out
    assert "files of llama.cpp" in shown and "q4_0, head q4_0, weighed" in shown
    page = (folder / "build/report.html").read_text()
    assert "Beside llama.cpp's own files of the parent" in page and page.count("q4_0, weighed") >= 2
    picture = (folder / "build/ladder-quality.svg").read_text()
    assert picture.count("<circle") == len(FEW) + 1 and ">best</text>" in picture
    assert not list((folder / "build/work").glob("eval/*"))


def _next_to(found: Evaluation) -> list[ModelFigures]:
    """The files on both sides of the child in speed: one where all others are faster, or slower."""
    assert found.ladder is not None
    (child,) = (model for model in found.models if model.model == "best")
    own = child.figures["chat.latency_s"].value
    slower = [m for m in found.ladder.models if m.figures["chat.latency_s"].value > own]
    faster = [m for m in found.ladder.models if m not in slower]
    return [*slower[:1], *faster[:1]]


@pytest.mark.more
def test_a_program_can_do_without(folder, few, capsys):
    assert run(["run", str(program(folder, "false"))]) in (0, 1)
    found = Evaluation.from_json((folder / "build/evals/quality.json").read_bytes())
    assert found.ladder is None and "files of llama.cpp" not in capsys.readouterr().out


@pytest.mark.more
def test_a_child_timed_in_pytorch_alone_has_none(folder, capsys):
    path = program(folder, "true")
    torch_alone = "hardware plain = measured(device: cpu)\nscenario chat on plain"
    path.write_text(path.read_text().replace("scenario chat on here", torch_alone))
    assert run(["run", str(path)]) in (0, 1)
    found = Evaluation.from_json((folder / "build/evals/quality.json").read_bytes())
    assert found.ladder is None and "files of llama.cpp" not in capsys.readouterr().out
