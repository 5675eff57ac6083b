"""Loading a parent: what config.json says is what there is, and what is wrong is a diagnostic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoTokenizer

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.models.errors import (
    DamagedWeights,
    NoCheckpoint,
    UnknownFamily,
    UnreadableCheckpoint,
    WeightsDontFit,
)
from puzzledsl.models.families.access import (
    family_of,
    layers,
    names_of,
    output_embedding,
    read_by_head,
    shape_of,
    sub_block_of,
)
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.families.slots import classes_of, weights_of
from puzzledsl.models.families.stored import inventory
from puzzledsl.models.kernels.attention import FAST_SDPA
from tests.tiny import FAMILIES, save_tiny, tiny_model, tiny_tokens


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "parent", tied=True)


def diagnostic(run: object, *args: object) -> object:
    with pytest.raises(DiagnosticError) as caught:
        run(*args)  # type: ignore[operator]
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_loaded_parent_is_the_saved_model(tmp_path: Path, family: str, tied: bool) -> None:
    model = load_parent(save_tiny(tmp_path, family, tied=tied))
    tokens = tiny_tokens()
    assert torch.equal(model(tokens).logits, tiny_model(family, tied=tied)(tokens).logits)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.config._attn_implementation == (FAST_SDPA if model._supports_sdpa else "eager")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_is_that_of_the_weights(family: str) -> None:
    model = tiny_model(family)
    shape = shape_of(model.config)
    assert {name: tuple(weight.shape) for name, weight in weights_of(model).items()} == inventory(shape)
    assert len(layers(model)) == shape.layers
    mixture = classes_of(family).mixture
    kinds = [
        mixture is not None and isinstance(sub_block_of(layer, "ffn"), mixture) for layer in layers(model)
    ]
    assert kinds == [own.ffn == "moe" for own in shape.each]
    assert shape.family == family_of(model).model_type == family


@pytest.mark.parametrize("flags", [{"attention_bias": True}, {"mlp_bias": True}])
def test_llama_biases_are_seen(flags: dict[str, bool]) -> None:
    shape = shape_of(tiny_model(**flags).config)
    assert shape.attention_bias == shape.output_bias == flags.get("attention_bias", False)
    assert shape.mlp_bias == flags.get("mlp_bias", False)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_those_of_all_weights_inside_a_layer(family: str) -> None:
    model = tiny_model(family)
    for layer_idx, layer in enumerate(layers(model)):
        names = names_of(shape_of(model.config), layer_idx)
        parts = [part for part in (names.attention, names.ffn) if part is not None]
        named = {name for part in parts for name in (part.module, *part.norms)}
        assert named == {name for name, child in layer.named_children() if list(child.parameters())}
    assert isinstance(sub_block_of(layers(model)[0], "attention"), classes_of(family).attention)


def test_the_tokenizer_comes_back(parent: Path) -> None:
    tokenizer = load_tokenizer(parent)
    text = "Zum Beispiel: 3 Äpfel"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text) == AutoTokenizer.from_pretrained(parent).encode(text)


def test_a_missing_directory_is_a_diagnostic(tmp_path: Path) -> None:
    assert isinstance(diagnostic(load_parent, tmp_path / "nowhere"), NoCheckpoint)
    assert isinstance(diagnostic(load_parent, tmp_path), NoCheckpoint)
    assert isinstance(diagnostic(load_tokenizer, tmp_path), NoCheckpoint)


def test_no_weights_is_a_diagnostic(parent: Path) -> None:
    (parent / "model.safetensors").unlink()
    found = diagnostic(load_parent, parent)
    assert isinstance(found, NoCheckpoint)
    assert "safetensors" in found.message


def test_pickled_weights_are_not_read(parent: Path) -> None:
    (parent / "model.safetensors").rename(parent / "pytorch_model.bin")
    assert isinstance(diagnostic(load_parent, parent), NoCheckpoint)


def test_truncated_weights_are_a_diagnostic(parent: Path) -> None:
    weights = parent / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    assert isinstance(diagnostic(load_parent, parent), DamagedWeights)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_bad_config_is_a_diagnostic(parent: Path, text: str) -> None:
    (parent / "config.json").write_text(text)
    assert isinstance(diagnostic(load_parent, parent), UnreadableCheckpoint)


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_one_layer_too_many_is_a_diagnostic(parent: Path) -> None:
    edit_config(parent, num_hidden_layers=4)
    found = diagnostic(load_parent, parent)
    assert isinstance(found, WeightsDontFit)
    assert "model.layers.3" in found.message


def test_one_layer_too_few_is_a_diagnostic(parent: Path) -> None:
    edit_config(parent, num_hidden_layers=2)
    assert isinstance(diagnostic(load_parent, parent), WeightsDontFit)


def test_wrong_sizes_are_a_diagnostic(parent: Path) -> None:
    edit_config(parent, intermediate_size=44)
    assert isinstance(diagnostic(load_parent, parent), WeightsDontFit)


def test_another_family_is_a_diagnostic(tmp_path: Path) -> None:
    CONFIG_MAPPING["gpt2"](n_layer=1).save_pretrained(tmp_path)
    found = diagnostic(load_parent, tmp_path)
    assert isinstance(found, UnknownFamily)
    assert "gpt2" in found.message


def test_code_in_the_directory_is_not_run(parent: Path) -> None:
    (parent / "evil.py").write_text("raise SystemExit('ran')\n")
    edit_config(parent, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    shutil.rmtree(parent / "__pycache__", ignore_errors=True)
    assert load_parent(parent).config.model_type == "llama"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_head_reads_gives_the_logits(family: str) -> None:
    model, tokens = tiny_model(family), tiny_tokens()
    states = model.base_model(tokens, use_cache=False).last_hidden_state
    logits = read_by_head(model, states) @ output_embedding(model).T
    torch.testing.assert_close(logits, model(tokens).logits, rtol=1e-4, atol=1e-4)
