"""Types of KV caches in names, pieces, entries of checkpoints, and costs."""

import pytest

from puzzledsl.alternatives.alternative import storage_misfit
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.alternatives.precision import CACHES
from puzzledsl.alternatives.registry import is_canonical
from puzzledsl.families.block_configs import entry_of, from_entry, shape_of_child
from puzzledsl.families.config import BadConfig
from tests.alternatives.test_registry import LLAMA_8B

KINDS = (ParentAttention(), GqaAttention(kv_heads=4), GqaAttention(kv_heads=2, window=64, sinks=4))


@pytest.mark.parametrize("dtype", [None, "q8_0", "int8"])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("plain", KINDS, ids=lambda a: a.name)
def test_a_type_changes_the_name_and_no_weight(plain, cache, dtype) -> None:
    made = plain.in_precision(dtype).in_cache(cache)
    assert made.name == plain.in_precision(dtype).name + f"@kv_{cache}" and made.cache == cache
    assert is_canonical(made.name, "attention") and not is_canonical(made.name, "ffn")
    assert made.of_piece == plain.in_precision(dtype) and made.of_piece.of_piece == made.of_piece
    assert made.keeps_weights == (plain.kind == "parent" and dtype is None) and not made.is_parent
    assert made.trainable == made.of_piece.trainable
    assert made.weights(LLAMA_8B) == plain.weights(LLAMA_8B)
    assert made.size(LLAMA_8B) == made.of_piece.size(LLAMA_8B)
    entry = {"no_op": False, "replace_with_linear": False} | entry_of(made, LLAMA_8B)
    assert from_entry("attention", entry, LLAMA_8B) == made
    assert made.in_cache(None) == made.of_piece


@pytest.mark.parametrize(
    "name", ["parent@kv_q4_0", "linear@kv_fp8", "gqa4@kv_fp8@q8_0", "parent@kv_", "gqa4@kv_fp8@kv_fp8"]
)
def test_other_names_are_none(name: str) -> None:
    assert not is_canonical(name, "attention")


def test_what_a_layer_cannot_store() -> None:
    narrow = LLAMA_8B.model_copy(update={"head_dim": 48})
    assert "no whole groups of 32" in storage_misfit(ParentAttention(kv_cache="q8_0"), narrow)
    assert storage_misfit(ParentAttention(kv_cache="fp8"), narrow) == ""
    none = LLAMA_8B.model_copy(update={"mixer": "none"})
    assert storage_misfit(ParentAttention(kv_cache="fp8"), none) == "there is no attention"
    matrix = LLAMA_8B.model_copy(update={"mixer": "linear"})
    assert "keeps no keys and values" in storage_misfit(ParentAttention(kv_cache="fp8"), matrix)


def test_an_entry_with_another_type_is_refused_and_a_child_that_rounds_is_no_parent() -> None:
    entry = {"no_op": False, "replace_with_linear": False, "n_heads_in_group": 4, "kv_cache": "q4_0"}
    with pytest.raises(ValueError, match="`q4_0` is no type of a KV cache"):
        from_entry("attention", entry, LLAMA_8B)
    attentions = {"n_heads_in_group": 4, "kv_cache": "fp8"}, {"n_heads_in_group": 4}
    entries = [{"attention": attention, "ffn": {"intermediate_size": 14336}} for attention in attentions]
    content = {"hidden_size": 4096, "block_configs": entries}
    two = LLAMA_8B.model_copy(update={"layers": 2})
    with pytest.raises(BadConfig, match="layer 0 rounds keys and values to fp8"):
        shape_of_child(content, two)
