"""Children whose attentions store keys and values in types of their own: checkpoints, flags, and engines."""

import json
from pathlib import Path

import numpy as np
import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.precision import ServedCaches
from puzzledsl.alternatives.registry import AttentionAlternative
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import from_directory
from puzzledsl.export.engines.worker import run
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.export.lowering import served_caches
from puzzledsl.export.verify import prepare, verify, verify_gguf
from puzzledsl.export.write import write_export
from puzzledsl.ir.engines import LLAMA_CPP, MLX, TRANSFORMERS, VLLM
from tests.cases import more
from tests.export.test_engines import request_for
from tests.export.variants import NA, A, F, Made, Variant, make
from tests.oracle_forward import oracle_logits

SIZES = {"hidden": 64, "head_dim": 64, "scale": 0.25}


def child_of(folder: Path, *attentions: AttentionAlternative, **sizes: int) -> Made:
    """A child with these attentions."""
    return make(Variant(tuple((a, F) for a in attentions), sizes={**SIZES, **sizes}), folder)


Q8, FP8 = ParentAttention(kv_cache="q8_0"), ParentAttention(kv_cache="fp8")
GQA_Q8, GQA_FP8 = GqaAttention(kv_heads=1, kv_cache="q8_0"), GqaAttention(kv_heads=1, kv_cache="fp8")


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return child_of(tmp_path_factory.mktemp("both"), Q8, GQA_FP8, ParentAttention())


@pytest.fixture(scope="module", params=[64, *more(32)], ids="heads of {}".format)
def of_llama_cpp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return child_of(tmp_path_factory.mktemp("llama"), Q8, NA, GQA_Q8, head_dim=request.param)


def plain_logits(made: Made, folder: Path) -> np.ndarray:
    """The oracle's logits of the same child without types."""
    config = json.loads((made.child / "config.json").read_text("utf-8"))
    for block in config["block_configs"]:
        block["attention"].pop("kv_cache", None)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "model.safetensors").symlink_to(made.child / "model.safetensors")
    return oracle_logits(folder, made.prompt)


def test_transformers_rounds_by_the_code_of_the_directory(of_both: Made, tmp_path: Path) -> None:
    config = json.loads((of_both.child / "config.json").read_text("utf-8"))
    assert [block["attention"].get("kv_cache") for block in config["block_configs"]] == ["q8_0", "fp8", None]
    assert [a.cache for a, _ in from_directory(of_both.child).layers] == ["q8_0", "fp8", None]
    path = prepare(from_directory(of_both.child), of_both.child, "transformers", tmp_path)
    _, found = run("transformers", request_for(path, of_both.prompt))
    near = np.abs(found["logits.0.0"] - of_both.logits).max()
    rounding = np.abs(plain_logits(of_both, tmp_path / "plain") - of_both.logits).max()
    assert near < 0.2 * rounding
    assert served_caches(from_directory(of_both.child), TRANSFORMERS) == ServedCaches("transformers")


def test_llama_cpp_rounds_as_it_is_told(of_llama_cpp: Made, tmp_path: Path) -> None:
    """It is as near to the oracle that rounds as queries of 8 bits allow, and told nothing it rounds nothing."""
    child = from_directory(of_llama_cpp.child)
    path = prepare(child, of_llama_cpp.child, "llama_cpp", tmp_path)
    caches = served_caches(child, LLAMA_CPP)
    assert caches.flags == "-ctk q8_0 -ctv q8_0 -fa on"
    plain = plain_logits(of_llama_cpp, tmp_path / "plain")
    rounding = np.linalg.norm(plain - of_llama_cpp.logits)
    found = {}
    for told in (True, False):
        request = request_for(path, of_llama_cpp.prompt) | (caches.request if told else {})
        found[told] = run("llama_cpp", request)[1]["logits.0.0"]
    assert np.abs(found[False] - plain).max() <= 2e-4 * np.abs(plain).max()
    assert 0.2 * rounding < np.linalg.norm(found[True] - plain) < 3 * rounding
    assert np.linalg.norm(found[True] - of_llama_cpp.logits) < 3 * rounding


def test_files_and_directories_are_verified(of_llama_cpp: Made, tmp_path: Path) -> None:
    path = tmp_path / "c.gguf"
    for dtype in ("q8_0", "f32"):
        write_gguf(from_directory(of_llama_cpp.child), of_llama_cpp.child, path, dtype, name="c")  # type: ignore[arg-type]
        assert verify_gguf(of_llama_cpp.child, path, Silent()).status == "equal"
    own, mlx = sorted(verify(of_llama_cpp.child, ("llama_cpp", "mlx"), Silent()), key=lambda r: r.engine)
    assert (own.status, mlx.status) == ("equal", "refused") and "parent@kv_q8_0" in (mlx.reason or "")


@pytest.mark.states("space.kv-cache-one")
def test_what_a_runtime_lacks_is_refused(of_both: Made, tmp_path: Path) -> None:
    child = from_directory(of_both.child)
    for runtime, name in ((VLLM, "parent@kv_q8_0"), (LLAMA_CPP, "gqa1@kv_fp8"), (MLX, "parent@kv_q8_0")):
        with pytest.raises(DiagnosticError, match=name):
            served_caches(child, runtime)
    mixed = from_directory(child_of(tmp_path, Q8, ParentAttention()).child)
    with pytest.raises(DiagnosticError, match="all its layers have one type of a KV cache"):
        served_caches(mixed, LLAMA_CPP)


@pytest.mark.parametrize(
    ("attentions", "family", "flags"),
    [
        ((FP8, GQA_FP8), "llama", "--kv-cache-dtype fp8"),
        ((FP8, A, GQA_FP8), "llama", "--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 1"),
        ((NA, FP8, A), "qwen3", "--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers 1"),
        ((A, GqaAttention(kv_heads=1)), "llama", ""),
    ],
    ids=["all", "some", "the backend counts layers with a cache", "none"],
)
def test_the_card_for_vllm_has_its_options(
    attentions: tuple[AttentionAlternative, ...], family: str, flags: str, tmp_path: Path
) -> None:
    made = make(Variant(tuple((a, F) for a in attentions), family, SIZES), tmp_path)
    write_export(made.child, tmp_path / "out", "hf", "vllm")
    serve = "`" + " ".join(filter(None, ("vllm serve DIRECTORY --trust-remote-code", flags))) + "`"
    assert serve in (tmp_path / "out" / "README.md").read_text("utf-8")
    blocks = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["block_configs"]
    assert not any("kv_cache" in block["attention"] for block in blocks), "vLLM rounds once"
