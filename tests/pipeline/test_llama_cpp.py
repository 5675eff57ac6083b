"""Files for llama.cpp at the end of a run: recipes weighed by the text of healing, and a ladder measured beside the child."""

import shutil
from pathlib import Path

import pytest

from puzzledsl.child.checkpoint.contents import from_parent
from puzzledsl.export.gguf_recipe import write_recipe
from puzzledsl.export.write import write_export
from puzzledsl.ir.measured_engines import LADDER, RECIPES
from puzzledsl.ir.tables import Evaluation
from tests.cases import more
from tests.commands import said
from tests.pipeline.tiny_program import ran, write_tiny_program
from tests.serving.test_clock import few
from tests.tiny import save_tiny

pytest.importorskip("llama_cpp_py_sync")
__all__ = ["few"]
PROGRAM = """\
parent tiny = hf("parent")
space wide of tiny { attention = parent | noop, ffn = parent | mlp(width: 50%) }
data corpus = text("corpus.txt")
bld pieces of wide { train = attention + ffn, tokens = 0, context = 32, calibration = 256, data = corpus, heal = HEAL }
score kl of pieces = replace_one(kl_divergence, samples: 64)
search best of wide { minimize kl, require params <= 90% * tiny.params }
"""
WEIGHED = 'export small of best = gguf("small.gguf", dtype: q4_0, lower: true)\n'
SERVED = """\
hardware served = measured(engine: llama_cpp, dtype: q8_0, threads: 1)
scenario chat on served = batch(1, 8 -> 4)
export usual of best = gguf("usual.gguf", lower: true)
export other of best = gguf("other.gguf", dtype: f32, lower: true)
"""
MEASURED = """\
hardware here = measured(HARDWARE)
scenario chat on here = batch(1, 8 -> 4)
eval quality of best = tasks("items.jsonl") { data = corpus, tokens = 512, prompts = none, ladder = LADDER }
"""
FEW = tuple(rung for rung in LADDER if "0" in rung.name and rung.name != "q4_0, head q4_0, weighed")
"""The ladder without the K types and iq4_nl: many processes fewer."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = write_tiny_program(tmp_path)
    shutil.rmtree(tmp_path / "parent")
    save_tiny(tmp_path / "parent", layers=2, hidden=64, intermediate=64)
    return file


@pytest.mark.states("export.formats")
@pytest.mark.parametrize("heal", [256, *more(0)])
def test_files_are_weighed_by_the_text_and_have_the_type_that_is_measured_unless_they_name_one(
    program: Path, heal: int
) -> None:
    program.write_text(PROGRAM.replace("HEAL", str(heal)) + WEIGHED)
    ran("run", program)
    folder, plain = program.parent, program.parent / "plain.gguf"
    write_export(folder / "build/models/best", plain, "gguf", "llama_cpp", "q4_0", name="small")
    assert plain.read_bytes() != (folder / "small.gguf").read_bytes()
    program.write_text(program.read_text().replace("dtype: q4_0", "dtype: q8_0") + SERVED)
    ran("export", program)
    usual, named, other = (len((folder / f"{n}.gguf").read_bytes()) for n in ("usual", "small", "other"))
    assert usual == pytest.approx(named, abs=256)  # they are called otherwise
    assert other > 2 * usual


def evaluated(program: Path, hardware: str, ladder: str) -> tuple[Evaluation, str]:
    """The evaluation of a run, and what the run said."""
    text = MEASURED.replace("HARDWARE", hardware).replace("LADDER", ladder)
    program.write_text(PROGRAM.replace("HEAL", "256") + text)
    code, out, err = said("run", program)
    assert code in (0, 1), err
    return Evaluation.from_json((program.parent / "build/evals/quality.json").read_bytes()), out


@pytest.mark.usefixtures("few")
def test_every_file_is_measured_beside_the_child(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puzzledsl.serving.ladder.LADDER", FEW)
    found, shown = evaluated(program, "engine: llama_cpp, dtype: f16, threads: 1", "true")
    build = program.parent / "build"
    assert found.ladder is not None and found.ladder.child == "best"
    files = {model.model: model.figures for model in found.ladder.models}
    assert list(files) == [rung.name for rung in FEW]
    kl = {name: figures["kl"].value for name, figures in files.items()}
    assert 0 < kl["q8_0"] < kl["q4_0"] < kl["q4_0, head q4_0"]
    assert kl["q4_0"] != kl["q4_0, weighed"]
    assert all(figures["chat.throughput"].value > 0 for figures in files.values())
    own, parent = program.parent / "own.gguf", program.parent / "parent"
    write_recipe(from_parent(parent), parent, own, RECIPES["q4_0"], name="q4_0")
    assert files["q4_0"]["checkpoint_bytes"].value == own.stat().st_size
    assert files["q4_0, head q4_0"]["checkpoint_bytes"].value < own.stat().st_size
    exported = program.parent / "best.gguf"
    write_export(build / "models/best", exported, "gguf", "llama_cpp", "f16", name="best")
    assert found.ladder.child_bytes == pytest.approx(exported.stat().st_size, abs=256)  # of its name

    (child,) = (model for model in found.models if model.model == "best")
    slower = [f["chat.latency_s"].value > child.figures["chat.latency_s"].value for f in files.values()]
    asked = {each.model for each in found.ladder.comparisons if each.kept}
    assert len(asked) == len(set(slower)) and asked <= set(files), "the next one on either side in speed"
    assert "files of llama.cpp" in shown and "q4_0, head q4_0" in shown
    page = (build / "report.html").read_text()
    assert "Beside llama.cpp's own files of the parent" in page and "q4_0, weighed" in page
    picture = (build / "ladder-quality.svg").read_text()
    assert picture.count("<circle") == len(FEW) + 1 and ">best</text>" in picture
    assert not list((build / "work").glob("eval/*"))
