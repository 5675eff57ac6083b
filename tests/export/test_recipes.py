"""Whole-file recipes of GGUF: what llama.cpp stores, what is said of it, and every way to fail."""

import errno
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError, RecipeOfQuantised
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import from_directory, load_checkpoint
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.definition import MissingPackage, RecipeFailed
from puzzledsl.cli.main import run
from puzzledsl.export import gguf_recipe
from puzzledsl.export.engines.llama_cpp_engine import quantise
from puzzledsl.export.gguf_file import as_llama_cpp, write_gguf
from puzzledsl.export.gguf_recipe import Importance, importance_of, write_recipe
from puzzledsl.export.verify import read_gguf, verify_gguf
from puzzledsl.export.write import write_export
from puzzledsl.ir.measured_engines import RECIPES, Recipe
from tests.cases import more
from tests.children import Choice
from tests.export.variants import LA, LF, NA, NF, A, F, Made, Variant, make
from tests.interrupting import Recorder

gguf = pytest.importorskip("gguf")
pytest.importorskip("llama_cpp_py_sync")
SIZES = {"hidden": 256, "intermediate": 256, "head_dim": 32, "heads": 8}
LAYERS = ((NA, F), (GqaAttention(kv_heads=1), NF), (A, MlpFfn(width=72)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(LAYERS, sizes=SIZES), tmp_path_factory.mktemp("recipes"))


def tensors(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    found = gguf.GGUFReader(path).tensors
    return {t.name: (t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type)) for t in found}


def test_llama_cpp_stores_the_childs_weights_in_its_types(made: Made, tmp_path: Path) -> None:
    """The same bytes as from llama.cpp alone, by any number of threads, and the same count of fallbacks as in its log."""
    heard = Recorder()
    write_export(made.child, tmp_path / "x.gguf", "gguf", "llama_cpp", "q4_k_m", name="x", progress=heard)
    child = from_directory(made.child)
    write_gguf(child, made.child, tmp_path / "f.gguf", "f32", name="x", whole_blocks=True)
    log = list[str]()
    quantise(str(tmp_path / "f.gguf"), str(tmp_path / "again.gguf"), 15, 3, say=log.append)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "x.gguf").read_bytes()
    other = re.search(r"(\d+) of \d+ tensor\(s\) required fallback", "".join(log))
    assert other is not None
    found, plain = tensors(tmp_path / "x.gguf"), tensors(tmp_path / "f.gguf")
    matrices = {name: kind for name, (kind, value) in found.items() if value.ndim > 1}
    assert matrices["blk.0.ffn_up.weight"] == "Q4_K" and matrices["blk.2.ffn_down.weight"] in ("Q5_0", "Q8_0")
    assert set(found) == set(plain)
    for name, (_, value) in found.items():
        assert np.linalg.norm(value - plain[name][1]) <= 0.12 * np.linalg.norm(plain[name][1]), name
    read, own = read_gguf(tmp_path / "f.gguf", child)
    lowered, _ = as_llama_cpp(child, whole_blocks=True)
    assert own.weights.keys() == lowered.weights.keys()
    assert all(torch.equal(read.weights[n].read(), w.read().float()) for n, w in lowered.weights.items())
    start, (_, said) = heard.events
    assert (
        f"{other[1]} of {len(matrices)} matrices have rows that are no multiples of 256 numbers"
        in said["text"]
    )
    assert start == ("start", {"task": "quantising to q4_k_m", "total": len(found)})
    assert heard.advanced == len(found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.gguf", "f.gguf", "x.gguf"]


@pytest.mark.parametrize("recipe", ["q4_0", *more("q4_1", "iq4_nl")])
def test_an_importance_matrix_lowers_the_kl(tmp_path: Path, recipe: str) -> None:
    """On other tokens of the kind that it was measured on; some channels are much larger than others."""
    made = make(Variant(((A, F), (A, MlpFfn(width=96))), sizes=SIZES | {"scale": 0.03}), tmp_path)
    weights = load_file(made.child / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("layernorm.weight"):
            weight[::8] *= 4
    save_file(weights, made.child / "model.safetensors", metadata={"format": "pt"})
    tokens_NS = torch.randint(4, 256, (24, 64), generator=torch.Generator().manual_seed(0))
    own = load_checkpoint(made.child)
    wanted = own(tokens_NS[16:]).logits.log_softmax(-1)

    def kl(importance: Importance | None) -> float:
        child, path = from_directory(made.child), tmp_path / "x.gguf"
        write_recipe(child, made.child, path, RECIPES[recipe], name="x", importance=importance)
        rounded = read_gguf(path, child).rounded
        write_checkpoint(rounded, made.child, tmp_path / "rounded", "")
        found = load_checkpoint(tmp_path / "rounded")(tokens_NS[16:]).logits.log_softmax(-1)
        return float((wanted.exp() * (wanted - found)).sum(-1).mean())

    assert kl(importance_of(made.child, tokens_NS[:16], Recorder())) < 0.9 * kl(None)


def test_what_fails_leaves_nothing(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, path = from_directory(made.child), tmp_path / "x.gguf"

    def refused(recipe: Recipe) -> object:
        with pytest.raises(DiagnosticError) as caught:
            write_recipe(child, made.child, path, recipe, name="x")
        assert not list(tmp_path.iterdir())
        return caught.value.diagnostics[0]

    needs_more = refused(Recipe("iq2_xxs", 19, 2.0))
    assert needs_more.kind == RecipeFailed and "imatrix" in needs_more.message

    class Stops(Recorder):
        def advance(self, amount: int = 1, **figures: float | str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_recipe(child, made.child, path, RECIPES["q4_0"], name="x", progress=Stops())
    assert not list(tmp_path.iterdir())

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
        with pytest.raises(OSError, match="No space left") as caught:
            write_recipe(child, made.child, path, RECIPES["q4_0"], name="x")
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)

    monkeypatch.setattr(gguf_recipe, "python_of", lambda _: None)
    absent = refused(RECIPES["q4_0"])
    assert absent.kind == MissingPackage and "puzzledsl[runtimes]" in str(absent.help)


def test_a_child_with_types_of_its_own_is_refused(tmp_path: Path) -> None:
    child = make(Variant(((A, ParentFfn(dtype="q8_0")),), sizes={"hidden": 64, "intermediate": 64}), tmp_path)
    with pytest.raises(DiagnosticError) as caught:
        write_export(child.child, tmp_path / "x.gguf", "gguf", "llama_cpp", "q4_k_m")
    [found] = caught.value.diagnostics
    assert found.kind == RecipeOfQuantised and "`q8_0`" in found.message


SLIM, WINDOW = (A, MlpFfn(width=128)), (GqaAttention(kv_heads=2, window=5), F)
OF_Q8: Choice = (ParentAttention(dtype="q8_0"), ParentFfn(dtype="q4_0"))
FILES = {
    "recipes": Variant(LAYERS, sizes=SIZES | {"scale": 0.05}),
    "deci": Variant((*LAYERS, (LA, LF)), sizes=SIZES),
    "linear": Variant(((LA, LF), (NA, MlpFfn(width=512)), (NA, NF), (LA, NF)), sizes=SIZES | {"scale": 0.05}),
    "openelm": Variant(((NA, F), (A, NF), SLIM), "qwen3", SIZES),
    "step35": Variant(((A, F), WINDOW, SLIM), "qwen3", SIZES),
    "mixed": Variant((OF_Q8, (A, F)), sizes=SIZES),
}
"""Children of which every recipe is tried; each of llama.cpp's architectures: deci, openelm, step35; and a mixed file."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_verified_by_its_own_weights(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = make(FILES[name], tmp_path)
    few = ("f32", "q8_0") if name == "mixed" else ("f32", "q4_k_m", "q6_k", "iq4_xs", "q2_k")
    for dtype in RECIPES if name in ("recipes", "linear") else few:
        path = tmp_path / f"{dtype}.gguf"
        write_export(child.child, path, "gguf", "llama_cpp", dtype)
        status = run(["verify-export", str(child.child), "--gguf", str(path)])
        said = capsys.readouterr().out
        print(dtype, said)
        assert status == 0 and " equal " in said
    other = make(Variant(LAYERS[:1], sizes=SIZES | {"hidden": 64}), tmp_path / "other")
    assert run(["verify-export", str(other.child), "--gguf", str(path)]) == 1
    assert "E0743" in capsys.readouterr().err


def test_another_childs_numbers_are_found(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rows of queries and keys in another order, the file is that of another child, which llama.cpp runs rightly."""
    with monkeypatch.context() as patched:
        patched.setattr("puzzledsl.export.gguf_file._paired", lambda weight, _: weight)
        write_export(made.child, tmp_path / "wrong.gguf", "gguf", "llama_cpp", "q6_k")
    found = verify_gguf(made.child, tmp_path / "wrong.gguf", Silent())
    assert found.status == "differs" and "made of another child" in found.reason
