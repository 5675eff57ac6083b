"""Parameter counts, and shapes read from config.json."""

import json
from pathlib import Path

import pytest

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import read_config
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import Shape
from tests.cases import more
from tests.checker.programs import checked, mistakes

PLAIN = Shape(
    family="llama", layers=2, hidden=10, heads=4, kv_heads=2, head_dim=6, intermediate=7, vocab=11, tied=True
)


BIASED = PLAIN.model_copy(
    update={"attention_bias": True, "output_bias": True, "qk_norm": True, "mlp_bias": True}
)


def test_parameters_by_hand() -> None:
    matrices = 10 * 24 + 2 * 10 * 12 + 24 * 10
    assert ParentAttention().params(PLAIN) == GqaAttention(kv_heads=2).params(PLAIN) == matrices + 10
    assert GqaAttention(kv_heads=1).params(PLAIN) == matrices - 2 * 10 * 6 + 10
    assert ParentAttention().params(BIASED) == matrices + 10 + (24 + 12 + 12) + 10 + 2 * 6
    assert ParentFfn().params(PLAIN) == 3 * 10 * 7 + 10
    assert MlpFfn(width=5).params(PLAIN) == 3 * 10 * 5 + 10
    assert MlpFfn(width=5).params(BIASED) == 3 * 10 * 5 + (5 + 5 + 10) + 10
    assert MoeFfn(experts=3, top_k=1, width=2).params(PLAIN) == 10 * 3 + 3 * (3 * 10 * 2) + 10
    assert LinearAttention().params(PLAIN) == LinearFfn().params(PLAIN) == 10 * 10 + 10
    assert NoOpAttention().params(PLAIN) == NoOpFfn().params(PLAIN) == 0
    untied = PLAIN.model_copy(update={"tied": False})
    assert facts.total_params(untied) - facts.total_params(PLAIN) == 11 * 10, "tied embeddings count once"


@pytest.mark.parametrize(
    ("alternative", "name", "value"),
    [
        (ParentAttention(), "kv_heads", 2),
        (GqaAttention(kv_heads=1), "kv_heads", 1),
        (NoOpAttention(), "kv_heads", 0),
        (ParentFfn(), "width", 7),
        (MlpFfn(width=5), "width", 5),
        (LinearFfn(), "width", 0),
        (MoeFfn(experts=4, top_k=2, width=3), "width", 12),
        (GqaAttention(kv_heads=1, window=8), "window", 8),
    ],
)
def test_facts_of_alternatives(alternative: Alternative, name: str, value: int) -> None:
    assert facts.fact(alternative, name, PLAIN) == value
    with pytest.raises(ValueError, match="colour"):
        facts.fact(alternative, "colour", PLAIN)


# ---------------------------------------------------------------- config.json

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 100,
    "vocab_size": 64,
}


def config(folder: Path, **changes: object) -> Path:
    path = folder / "model" / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({k: v for k, v in {**CONFIG, **changes}.items() if v != "absent"}))
    return path


def shape_of(folder: Path, **changes: object) -> Shape:
    found = read_config(config(folder, **changes))
    assert found is not None
    return found


@pytest.mark.parametrize("family", ["llama", *more("mistral", "qwen2", "qwen3")])
def test_defaults_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    """Against the library itself, for the switches that change parameters."""
    from transformers import AutoConfig

    null = [] if family.startswith("qwen") else [{"head_dim": None}]  # which transformers' Qwen cannot run
    for changes in ({}, {"head_dim": 20}, *null, {"num_key_value_heads": 4}, {"tie_word_embeddings": True}):
        found = shape_of(tmp_path, model_type=family, **changes)
        theirs = AutoConfig.from_pretrained(tmp_path / "model")
        assert found.kv_heads == theirs.num_key_value_heads
        assert found.head_dim == (getattr(theirs, "head_dim", None) or 48 // 4)
        assert found.tied == theirs.tie_word_embeddings


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"num_hidden_layers": "absent"}, "num_hidden_layers is missing"),
        ({"hidden_size": "many"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_key_value_heads": 3}, "does not divide"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ({"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["full"]}, "layer_types"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
    ],
)
def test_a_config_that_cannot_be_used(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(BadConfig, match=why):
        read_config(config(tmp_path, **changes))


def test_a_config_larger_than_any_or_that_the_system_does_not_read(tmp_path: Path) -> None:
    path = config(tmp_path)
    path.write_bytes(path.read_bytes() + b" " * (1 << 20))
    with pytest.raises(BadConfig, match="it is larger than any"):
        read_config(path)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # a file for whoever asks, whose first page no process has
    if path.is_file():
        with pytest.raises(BadConfig, match=r"it cannot be read \("):
            read_config(path)


def test_a_parent_of_almost_this_name(tmp_path: Path) -> None:
    config(tmp_path)
    for name in ("modle", "./modle", "modle/"):
        [told] = checked(tmp_path, f'parent p = hf("{name}")\n').diagnostics
        meant = "./model" if name.startswith("./") else "model"
        assert (told.code, told.help) == ("E0405", f'did you mean `hf("{meant}")`?')


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_config_that_is_none(tmp_path: Path, content: bytes) -> None:
    config(tmp_path).write_bytes(content)
    assert mistakes(tmp_path, 'parent p = hf("model")\n') == [("E0407", 1)]
