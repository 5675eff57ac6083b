"""Children whose embedding and head have types of their own: checkpoints, GGUF files, and the engines that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from puzzledsl.child.checkpoint.contents import from_directory, load_child
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.precision.gptq import rounded_end
from tests.assembled import assemble
from tests.cases import more
from tests.children import define, random_pieces
from tests.export.test_engines import same
from tests.export.variants import G1, A, F, Made, Variant, make

LAYERS = ((A, F), (G1, F))
SIZES = {"hidden": 64, "intermediate": 96, "head_dim": 16}
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
