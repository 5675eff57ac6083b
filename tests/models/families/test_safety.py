"""Whatever lies in a checkpoint directory, loading it ends with a model or a diagnostic: no crash, no code, no gigabytes."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models.errors import DamagedWeights, UnreadableCheckpoint, WeightsDontFit
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.tensors import INDEX, open_file, open_weights
from tests.tiny import save_tiny


def refused(run) -> object:
    with pytest.raises(DiagnosticError) as caught:
        run()
    return caught.value.diagnostics[0]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "parent")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (save_tiny(tmp_path_factory.mktemp("whole")) / "model.safetensors").read_bytes()


def sharded(directory: Path) -> dict[str, str]:
    """Split the parent's weights into two files with an index; returns the index's map."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(weights)
    where = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, directory / file, metadata={"format": "pt"})
        where |= dict.fromkeys(part, file)
    write_index(directory, where)
    return where


def write_index(directory: Path, where: object) -> None:
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_shards_are_one_model(parent: Path) -> None:
    before = {name: weight.read() for name, weight in open_weights(parent).items()}
    sharded(parent)
    after = {name: weight.read() for name, weight in open_weights(parent).items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_parent(parent).config.num_hidden_layers == 3


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 2000, -1, -4096])
def test_a_truncated_file(parent: Path, cut: int) -> None:
    path = parent / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    assert isinstance(refused(lambda: load_parent(parent)), DamagedWeights)


def test_a_truncated_shard_is_named(parent: Path) -> None:
    sharded(parent)
    path = parent / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    found = refused(lambda: load_parent(parent))
    assert isinstance(found, DamagedWeights) and path.name in found.message and "truncated" in found.message


@pytest.mark.parametrize(
    "name",
    [
        "../parent/model.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "",
        "model.bin",
        "..\\x.safetensors",
    ],
)
def test_an_index_cannot_leave_the_directory(parent: Path, name: str) -> None:
    where = sharded(parent)
    write_index(parent, where | {"lm_head.weight": name})
    found = refused(lambda: load_parent(parent))
    assert isinstance(found, DamagedWeights) and "not the name of a .safetensors file" in found.message


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 10**5]
)
def test_an_index_that_is_none(parent: Path, content: str) -> None:
    sharded(parent)
    (parent / INDEX).write_text(content)
    assert isinstance(refused(lambda: load_parent(parent)), DamagedWeights)


def test_shards_that_are_mixed_up(parent: Path) -> None:
    where = sharded(parent)
    swap = {"model-00001-of-00002.safetensors": "model-00002-of-00002.safetensors"}
    swap |= {value: key for key, value in swap.items()}
    write_index(parent, {name: swap[file] for name, file in where.items()})
    assert isinstance(refused(lambda: load_parent(parent)), DamagedWeights)
    write_index(parent, where | {"model.extra.weight": "model-00001-of-00002.safetensors"})
    assert "model.extra.weight" in str(refused(lambda: load_parent(parent)))
    (parent / "model-00001-of-00002.safetensors").unlink()
    assert "missing" in str(refused(lambda: load_parent(parent)))


def test_a_wrong_shape_names_the_weight_and_both_shapes(parent: Path) -> None:
    weights = load_file(parent / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = torch.zeros(41, 24)
    save_file(weights, parent / "model.safetensors", metadata={"format": "pt"})
    found = refused(lambda: load_parent(parent))
    assert isinstance(found, WeightsDontFit)
    assert "`model.layers.1.mlp.up_proj.weight` is [41, 24], and should be [40, 24]" in found.message


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [10**9, 10**30, 0, -1, 1.5, "3", True, [8], 1e308])
def test_absurd_sizes(parent: Path, name: str, value: object) -> None:
    path = parent / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    found = refused(lambda: load_parent(parent))
    assert isinstance(found, UnreadableCheckpoint) and name in found.message


def test_large_sizes_that_a_model_could_have_are_refused_by_the_weights(parent: Path) -> None:
    """Nothing is allocated: the files say that there is no such model before one is made."""
    path = parent / "config.json"
    sizes = {
        "num_hidden_layers": 900,
        "hidden_size": 1 << 19,
        "intermediate_size": 1 << 22,
        "vocab_size": 1 << 25,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes))
    assert isinstance(refused(lambda: load_parent(parent)), WeightsDontFit)


def header(entries: object, size: int = 64) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 17]},
        {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [1e3], "data_offsets": [0, 16]},
        {"dtype": "F4", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0]},
        {"shape": [4]},
        None,
        [],
        "F32",
    ],
)
def test_an_entry_that_lies(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"a": entry}))
    assert isinstance(refused(lambda: open_file(path)), DamagedWeights)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_to_the_table_is_a_diagnostic_or_harmless(whole: bytes, tmp_path_factory, data) -> None:
    """Bytes of the header overwritten, removed or inserted anywhere."""
    length = 8 + int.from_bytes(whole[:8], "little")
    at = data.draw(st.integers(0, length - 1))
    removed = data.draw(st.integers(0, 5))
    content = whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + removed :]
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(DiagnosticError):
        for tensor in open_file(path).values():
            assert tuple(tensor.read().shape) == tensor.shape
