"""Loading a parent: what config.json says is what there is, and whatever else lies in the directory, loading it ends with
a diagnostic: no crash, no code, no gigabytes."""

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models import errors
from puzzledsl.models.families.access import (
    family_of,
    layers,
    names_of,
    shape_of,
    sub_block_of,
)
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.families.slots import classes_of, weights_of
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.families.tensors import INDEX, open_file, open_weights
from puzzledsl.models.kernels.products import FAST_SDPA
from tests.refused import refused
from tests.tiny import FAMILIES, HYBRIDS, save_tiny, tiny_model, tiny_tokens


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "parent")


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_loaded_is_what_transformers_loads(tmp_path: Path, family: str, tied: bool) -> None:
    """Every weight and buffer, and the settings of generation."""
    directory, tokens = save_tiny(tmp_path, family, tied=tied), tiny_tokens()
    ours, theirs = (
        load_parent(directory),
        AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32),
    )
    assert torch.equal(ours(tokens).logits, tiny_model(family, tied=tied)(tokens).logits)
    for held in ("state_dict", "named_buffers"):
        found, expected = (dict(getattr(model, held)()) for model in (ours, theirs))
        assert found.keys() == expected.keys()
        for name, weight in expected.items():
            assert found[name].dtype == weight.dtype and torch.equal(found[name], weight), name
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
    assert (ours.get_output_embeddings().weight is ours.get_input_embeddings().weight) == tied
    assert not ours.training and not any(weight.requires_grad for weight in ours.parameters())
    assert ours.config._attn_implementation == (FAST_SDPA if ours._supports_sdpa else "eager")


def test_a_tied_head_in_the_file_is_the_embedding(parent: Path) -> None:
    """transformers unties a head that differs, with a warning; costs, scores and exports count one matrix."""
    path, expected = parent / "model.safetensors", load_parent(parent)
    edit_config(parent, tie_word_embeddings=True)
    found = refused(load_parent, parent)
    assert (
        found.kind == errors.WeightsDontFit and "`lm_head.weight` is not the embedding; set" in found.message
    )
    save_file(load_file(path) | {"lm_head.weight": load_file(path)["model.embed_tokens.weight"]}, path)
    loaded = load_parent(parent)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, expected.model.embed_tokens.weight)


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_shape_and_names_are_those_of_the_weights(family: str) -> None:
    model = tiny_model(family, layers=12 if family == "nemotron_h" else 4)
    shape, mixture = shape_of(model.config), classes_of(family).mixture
    assert {name: tuple(weight.shape) for name, weight in weights_of(model).items()} == inventory(shape)
    assert len(layers(model)) == shape.layers and shape.family == family_of(model).model_type == family
    for layer_idx, layer in enumerate(layers(model)):
        names, own = names_of(shape, layer_idx), shape.at(layer_idx)
        parts = [part for part in (names.attention, names.ffn) if part is not None]
        named = {name for part in parts for name in (part.module, *part.norms)}
        assert named == {name for name, child in layer.named_children() if list(child.parameters())}
        if own.mixer == "attention":
            assert isinstance(sub_block_of(layer, "attention"), classes_of(family).attention)
        if own.ffn != "none" and mixture is not None:
            assert isinstance(sub_block_of(layer, "ffn"), mixture) == (own.ffn == "moe")


def test_the_tokenizer_comes_back_and_no_code_is_run(parent: Path) -> None:
    tokenizer, text = load_tokenizer(parent), "Zum Beispiel: 3 Äpfel"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == AutoTokenizer.from_pretrained(parent).encode(text)
    (parent / "evil.py").write_text("raise SystemExit('ran')\n")
    edit_config(parent, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert load_parent(parent).config.model_type == "llama"


def test_no_checkpoint(parent: Path, tmp_path: Path) -> None:
    """Pickled weights are none."""
    for load, path in (
        (load_parent, tmp_path / "nowhere"),
        (load_parent, tmp_path),
        (load_tokenizer, tmp_path),
    ):
        assert refused(load, path).kind == errors.NoCheckpoint
    (parent / "model.safetensors").rename(parent / "pytorch_model.bin")
    found = refused(load_parent, parent)
    assert found.kind == errors.NoCheckpoint and "safetensors" in found.message
    CONFIG_MAPPING["gpt2"](n_layer=1).save_pretrained(tmp_path)
    found = refused(load_parent, tmp_path)
    assert found.kind == errors.UnknownFamily and "gpt2" in found.message


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_bad_config_is_a_diagnostic(parent: Path, text: str) -> None:
    (parent / "config.json").write_text(text)
    assert refused(load_parent, parent).kind == errors.UnreadableCheckpoint


LARGE = {"num_hidden_layers": 900, "hidden_size": 1 << 19, "vocab_size": 1 << 25}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 4}, "model.layers.3"),
        ({"num_hidden_layers": 2}, "model.layers.2"),
        ({"intermediate_size": 44}, "gate_proj.weight` is [40, 24], and should be [44, 24]"),
        (LARGE, "model.embed_tokens.weight"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights(parent: Path, changes: dict[str, int], words: str) -> None:
    """Nothing is allocated for large ones: the files say that there is no such model before one is made."""
    edit_config(parent, **changes)
    found = refused(load_parent, parent)
    assert found.kind == errors.WeightsDontFit and words in found.message


# ---------------------------------------------------------------- damaged files


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
    path = parent / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    found = refused(load_parent, parent)
    assert found.kind == errors.DamagedWeights and path.name in found.message and "truncated" in found.message


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 2000, -10])
def test_a_truncated_file(parent: Path, cut: int) -> None:
    path = parent / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    found = refused(load_parent, parent)
    assert found.kind == errors.DamagedWeights and path.name in found.message


@pytest.mark.parametrize(
    "name", ["../parent/model.safetensors", "/etc/passwd", "", "model.bin", "..\\x.safetensors"]
)
def test_an_index_cannot_leave_the_directory(parent: Path, name: str) -> None:
    where = sharded(parent)
    write_index(parent, where | {"lm_head.weight": name})
    found = refused(load_parent, parent)
    assert found.kind == errors.DamagedWeights and "not the name of a .safetensors file" in found.message


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 10**5])
def test_an_index_that_is_none(parent: Path, content: str) -> None:
    sharded(parent)
    (parent / INDEX).write_text(content)
    assert refused(load_parent, parent).kind == errors.DamagedWeights


def test_shards_that_are_mixed_up(parent: Path) -> None:
    where = sharded(parent)
    swap = {"model-00001-of-00002.safetensors": "model-00002-of-00002.safetensors"}
    swap |= {value: key for key, value in swap.items()}
    write_index(parent, {name: swap[file] for name, file in where.items()})
    assert refused(load_parent, parent).kind == errors.DamagedWeights
    write_index(parent, where | {"model.extra.weight": "model-00001-of-00002.safetensors"})
    assert "model.extra.weight" in str(refused(load_parent, parent))
    (parent / "model-00001-of-00002.safetensors").unlink()
    assert "missing" in str(refused(load_parent, parent))


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [10**9, 10**30, 0, -1, 1.5, "3", True, [8], 1e308])
def test_absurd_sizes(parent: Path, name: str, value: object) -> None:
    edit_config(parent, **{name: value})
    found = refused(load_parent, parent)
    assert found.kind == errors.UnreadableCheckpoint and name in found.message


def header(entries: object, size: int = 64) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


SOUND = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
LIES: list[Any] = [
    *(SOUND | {"data_offsets": offsets} for offsets in ([0, 17], [64, 80], [16, 0], [0])),
    *(SOUND | {"shape": shape} for shape in ([-4], [2**70, 0], [1e3], 4)),
    *(SOUND | {"dtype": dtype} for dtype in ("F4", ["F32"])),
    *({"shape": [4]}, None, [], "F32"),
]


@pytest.mark.parametrize("entry", LIES)
def test_an_entry_that_lies(tmp_path: Path, entry: object) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"a": entry}))
    assert refused(open_file, path).kind == errors.DamagedWeights


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
