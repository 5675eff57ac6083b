"""Damaged checkpoints of mixtures: loading one ends with a model, or with a diagnostic that names what is wrong.

Nothing is written either way.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.families.registry import shape_of_config
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.slots import weights_of
from puzzledsl.models.families.stored import inventory
from tests.cases import cases
from tests.children import PARENT, Choice, define, random_pieces
from tests.export.variants import A
from tests.families.test_corrupted_configs import fields_of
from tests.tiny import MIXTURES, SPARSE_HYBRIDS, save_tiny, tiny_tokens

ALL = (*MIXTURES, *SPARSE_HYBRIDS)
LAYERS = {"nemotron_h": 4}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([0, 1 << 12, 1 << 40, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "6", "mxfp4", "silu", "relu", "full_attention", "sliding_attention"]),
)
VALUES = st.one_of(LEAVES, st.lists(LEAVES, max_size=4), st.dictionaries(st.just("quant_method"), LEAVES))


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parents")
    return {family: save_tiny(folder / family, family, layers=LAYERS.get(family, 3)) for family in ALL}


@pytest.fixture(scope="module")
def children(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made: dict[str, Path] = {}
    choices: list[Choice] = [(A, MoeFfn(experts=3, top_k=2, width=8)), PARENT, PARENT]
    for family in MIXTURES:
        parent = parents[family]
        made[family] = tmp_path_factory.mktemp("children") / family
        realise(define(choices), parent, random_pieces(load_parent(parent), choices), made[family])
    return made


def loaded(parent: Path) -> Any:
    """Return the model, or the messages of the diagnostics; check that the directory stays as it was."""
    before = {path.name: path.read_bytes() for path in parent.iterdir()}
    try:
        return load_parent(parent)
    except DiagnosticError as error:
        return "\n".join(f"{diagnostic.code} {diagnostic.message}" for diagnostic in error.diagnostics)
    finally:
        assert {path.name: path.read_bytes() for path in parent.iterdir()} == before


@pytest.mark.parametrize("family", ALL)
@settings(max_examples=cases(60), deadline=None)
@given(data=st.data())
def test_any_value_of_any_field(parents: dict[str, Path], family: str, data: st.DataObject) -> None:
    parent = parents[family]
    path, field = parent / "config.json", data.draw(st.sampled_from(fields_of(family)))
    whole = path.read_text()
    changed = json.loads(whole) | {field: data.draw(VALUES)}
    try:
        path.write_text(json.dumps(changed))
        found = loaded(parent)
    finally:
        path.write_text(whole)
    if isinstance(found, str):
        assert str(parent) in found and all(line.startswith("E07") for line in found.splitlines())
        return
    own = shape_of(found.config)
    assert {name: tuple(weight.shape) for name, weight in weights_of(found).items()} == inventory(own)
    assert found(tiny_tokens()).logits.isfinite().all()
    assert shape_of_config(changed) == own  # the checker reads what transformers reads


@pytest.mark.parametrize("family", MIXTURES)
@settings(max_examples=cases(60), deadline=None)
@given(data=st.data())
def test_any_value_in_a_child_s_mixture(children: dict[str, Path], family: str, data: st.DataObject) -> None:
    path = children[family] / "config.json"
    whole, found = path.read_text(), ""
    changed = json.loads(whole)
    entry = changed["block_configs"][data.draw(st.sampled_from([0, 2]))]["ffn"]
    entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(VALUES)
    try:
        path.write_text(json.dumps(changed))
        load_checkpoint(children[family])(tiny_tokens())
    except DiagnosticError as error:
        found = "".join(f"{diagnostic.code} {diagnostic.message}" for diagnostic in error.diagnostics)
    finally:
        path.write_text(whole)
    assert not found or (found.startswith("E07") and str(children[family]) in found)


def damage(tensors: dict[str, torch.Tensor], name: str, way: str) -> None:
    """Lose a tensor, rename it, or change its size."""
    weight = tensors.pop(name)
    if way == "renamed":
        tensors[re.sub(r"layers\.\d", "layers.7", name) + ".x"] = weight
    elif way == "cut":
        tensors[name] = weight[1:].clone()
    elif way == "wider":
        tensors[name] = torch.cat([weight, weight])


@pytest.mark.parametrize("family", ALL)
@settings(max_examples=cases(40), deadline=None)
@given(data=st.data())
def test_any_tensor_lost_renamed_or_of_another_size(
    parents: dict[str, Path], family: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("damaged") / family
    shutil.copytree(parents[family], parent)
    tensors = load_file(parent / "model.safetensors")
    name = data.draw(st.sampled_from(sorted(tensors)))
    damage(tensors, name, data.draw(st.sampled_from(["lost", "renamed", "cut", "wider"])))
    save_file(tensors, parent / "model.safetensors")
    found = loaded(parent)
    assert isinstance(found, str) and str(parent) in found
    expert = name.removesuffix("_bias").replace("backbone.", "model.")  # as the model calls it
    assert expert in found or f"{expert.removesuffix('.gate_up_proj').removesuffix('.down_proj')}." in found
