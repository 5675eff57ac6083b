"""Children with quantised sub-blocks, embeddings and heads: mixed GGUF files, compressed-tensors in transformers, refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory, load_child
from puzzledsl.child.definition import RuntimeLacksIt
from puzzledsl.export.engines.worker import run
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.export.verify import prepare
from puzzledsl.export.write import write_export
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import rounded_end
from tests.assembled import assemble
from tests.cases import more
from tests.children import Choice, define, random_pieces
from tests.export.test_engines import request_for, same
from tests.export.variants import G1, A, F, Made, Variant, make

SIZES = {"hidden": 64, "intermediate": 96, "head_dim": 16}
GGUF: tuple[Choice, ...] = (
    (ParentAttention(dtype="q8_0"), ParentFfn(dtype="q4_0")),
    (GqaAttention(kv_heads=1, dtype="q5_0"), MlpFfn(width=40, dtype="q8_0")),
    (LinearAttention(dtype="q8_0"), LinearFfn(dtype="q8_0")),
    (A, NoOpFfn()),
    (ParentAttention(dtype="q4_1"), ParentFfn(dtype="iq4_nl")),
)
COMPRESSED: tuple[Choice, ...] = (
    (ParentAttention(dtype="int8"), ParentFfn(dtype="int4")),
    (GqaAttention(kv_heads=1, dtype="fp8"), MlpFfn(width=64, dtype="int8")),
    (LinearAttention(dtype="int4"), LinearFfn(dtype="fp8")),
    (A, F),
)


MLX: tuple[Choice, ...] = (
    (ParentAttention(dtype="q8_0"), ParentFfn(dtype="int4")),
    (GqaAttention(kv_heads=1, dtype="int4"), MlpFfn(width=40, dtype="q4_0")),
    (ParentAttention(dtype="q4_1"), LinearFfn(dtype="q8_0")),
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(GGUF, sizes=SIZES), tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Variant(COMPRESSED, sizes=SIZES), tmp_path_factory.mktemp("compressed"))


def unquantised(child: ChildFiles) -> ChildFiles:
    """The same weights, as if nothing said that they lie on grids."""
    return replace(child, layers=tuple((a.in_precision(None), f.in_precision(None)) for a, f in child.layers))


def test_a_mixed_file_has_the_childs_weights_bit_for_bit(mixed: Made, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    child = from_directory(mixed.child)
    write_gguf(child, mixed.child, tmp_path / "mixed.gguf", "f32", name="tiny")
    write_gguf(unquantised(child), mixed.child, tmp_path / "plain.gguf", "f32", name="tiny")
    paths = tmp_path / "mixed.gguf", tmp_path / "plain.gguf"
    found, plain = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in paths)
    types = {name: tensor.tensor_type.name for name, tensor in found.items()}
    assert types["blk.0.attn_q.weight"] == "Q8_0" and types["blk.0.ffn_down.weight"] == "Q4_0"
    assert types["blk.1.attn_output.weight"] == "Q5_0" and types["token_embd.weight"] == "F32"
    assert set(found) == set(plain)
    for name, tensor in found.items():
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        other = gguf.quants.dequantize(plain[name].data, plain[name].tensor_type)
        assert np.array_equal(values[tuple(map(slice, other.shape))], other), name
        assert values.sum() == pytest.approx(other.sum(), rel=1e-4, abs=1e-3)  # what is padded is zero


def test_llama_cpp_is_as_near_to_the_child_as_its_own_rounding_of_activations(
    mixed: Made, tmp_path: Path
) -> None:
    """It multiplies quantised matrices by activations rounded to 8 bits. Those of its own q8_0 file of the same weights are
    the measure; with all weights as float32, both are the child."""
    pytest.importorskip("gguf")
    child, path, errors = from_directory(mixed.child), tmp_path / "x.gguf", []
    for made, dtype in ((unquantised(child), "f32"), (child, "f32"), (unquantised(child), "q8_0")):
        write_gguf(made, mixed.child, path, dtype, name="tiny")  # type: ignore[arg-type]
        _, found = run("llama_cpp", request_for(path, mixed.prompt))
        errors.append(np.linalg.norm(found["logits.0.0"] - mixed.logits) / np.linalg.norm(mixed.logits))
    assert errors[0] <= 1e-5 and errors[1] <= errors[2] <= 0.1


def test_a_compressed_directory_is_what_it_says_and_transformers_reads_it(
    served: Made, tmp_path: Path
) -> None:
    pytest.importorskip("compressed_tensors")
    same("transformers", served, tmp_path)
    write_export(served.child, tmp_path / "hf", "hf", "transformers")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors" and config["format"] == "mixed-precision"
    each = [(group["weights"], group) for group in config["config_groups"].values()]
    groups = {(w["num_bits"], w["type"], w.get("group_size")): group for w, group in each}
    assert set(groups) == {(8, "int", None), (4, "int", 64), (4, "int", 32), (8, "float", None)}
    assert groups[8, "int", None]["targets"][0] == r"re:model\.layers\.(0)\.self_attn\.q_proj$"
    sizes = [sum(p.stat().st_size for p in d.glob("*.safetensors")) for d in (tmp_path / "hf", served.child)]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("heads", [4, 2])
def test_mlx_computes_what_the_oracle_does(heads: int, tmp_path: Path) -> None:
    """By mlx-lm's own model, and with heads that it does not have by the one in the directory."""
    pytest.importorskip("mlx_lm")
    made = make(Variant(MLX, sizes={**SIZES, "heads": heads}), tmp_path)
    path = same("mlx", made, tmp_path / "mlx")
    modules = json.loads((path / "config.json").read_text())["quantization"]
    assert modules["model.layers.1.self_attn.q_proj"] == {"group_size": 64, "bits": 4}
    assert modules["model.layers.1.mlp.down_proj"] == {"group_size": 32, "bits": 4}


@pytest.mark.parametrize(
    ("engine", "lacking"), [("vllm", "@q8_0"), ("transformers", "@q8_0"), ("mlx", "@q5_0")]
)
def test_an_engine_without_a_type_refuses_it(mixed: Made, engine, lacking: str, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        prepare(from_directory(mixed.child), mixed.child, engine, tmp_path)
    assert any(d.kind == RuntimeLacksIt and lacking in d.message for d in caught.value.diagnostics)


# ---------------------------------------------------------------- embeddings and heads


LAYERS = ((A, F), (G1, F))
CASES = {
    "head": ("parent", "parent@q4_0"),
    "embedding": ("parent@q8_0", "parent"),
    "both": ("parent@q8_0", "parent@iq4_nl"),
    "alike": ("parent@q4_1", "parent@q4_1"),
}


FEW = [("head", True), ("embedding", False), ("both", False), ("alike", True)]
REST = [f"{name} {tied}" for name in CASES for tied in (True, False) if (name, tied) not in FEW]


@pytest.fixture(scope="module", params=[*(f"{name} {tied}" for name, tied in FEW), *more(*REST)])
def case(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[EndsAssignment, bool, Made]:
    name, tied = request.param.split()[0], request.param.endswith("True")
    ends = EndsAssignment(embedding=CASES[name][0], head=CASES[name][1])
    sizes = {**SIZES, "tied": tied}
    return ends, tied, make(Variant(LAYERS, sizes=sizes, ends=ends), tmp_path_factory.mktemp(name))


def matrices(made: Made, ends: EndsAssignment) -> dict[str, torch.Tensor]:
    """Embedding and head of a child, from its parent's."""
    parent: Any = load_parent(made.parent)
    whole = {"embedding": parent.get_input_embeddings().weight, "head": parent.get_output_embeddings().weight}
    types = {site: name.partition("@")[2] for site, name in ends}
    return {s: rounded_end(w, types[s]) if types[s] else w for s, w in whole.items()}  # type: ignore[arg-type]


@torch.no_grad()
def test_the_checkpoint_has_both_matrices_and_unties_what_differs(
    case: tuple[EndsAssignment, bool, Made],
) -> None:
    ends, tied, made = case
    child: Any = load_child(made.child)
    found = {"embedding": child.get_input_embeddings().weight, "head": child.get_output_embeddings().weight}
    for site, wanted in matrices(made, ends).items():
        assert torch.equal(found[site], wanted), site
    files = from_directory(made.child)
    assert files.shape.tied == (tied and ends.embedding == ends.head)
    assert ("lm_head.weight" in files.weights) == (not files.shape.tied)
    parent = load_parent(made.parent)
    pieces = random_pieces(load_parent(made.parent), LAYERS)
    built = assemble(parent, define(LAYERS).model_copy(update={"ends": ends}), pieces)
    tokens = torch.tensor([made.prompt])
    assert torch.equal(built(tokens).logits, child(tokens).logits)


def test_a_gguf_file_has_their_types(case: tuple[EndsAssignment, bool, Made], tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    ends, _, made = case
    child = from_directory(made.child)
    write_gguf(child, made.child, tmp_path / "child.gguf", "f32", name="tiny")
    found = {t.name: t for t in gguf.GGUFReader(tmp_path / "child.gguf").tensors}
    assert ("output.weight" in found) == (not child.shape.tied)
    for site, name in (("embedding", "token_embd.weight"), ("head", "output.weight")):
        if name not in found:
            continue
        dtype = getattr(ends, site).partition("@")[2] or "f32"
        assert found[name].tensor_type.name == dtype.upper()
        values = gguf.quants.dequantize(found[name].data, found[name].tensor_type)
        assert np.array_equal(values, matrices(made, ends)[site].numpy())


def test_transformers_computes_what_the_oracle_does(
    case: tuple[EndsAssignment, bool, Made], tmp_path: Path
) -> None:
    same("transformers", case[2], tmp_path)
