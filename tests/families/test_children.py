"""Shapes of children: Nemotron-49B and -253B from their published layers, a tiny checkpoint of the kind, and bad input."""

import itertools
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.cli.main import run
from puzzledsl.families.block_configs import from_block_configs, on_base, to_block_configs
from puzzledsl.families.config import BadConfig
from puzzledsl.families.registry import child_of_config, shape_of_config
from puzzledsl.ir.facts import total_params
from puzzledsl.models.families.load import load_parent
from tests.cases import cases
from tests.child.checkpoint.test_checkpoint import Made
from tests.children import ATTENTIONS, FFNS, MIXED, PARENT
from tests.families.test_corrupted_configs import VALUES
from tests.tiny import tiny_tokens

Run = tuple[int, int | None, float | None]
"""Layers, query heads per key/value head (None: no attention), and ffn_mult (None: no FFN)."""
SUPER_49B: list[Run] = [
    (1, 8, 2.625), (5, 8, 5.25), (2, None, 2.625), (3, 8, 5.25), (1, None, 3.28125), (30, 8, 5.25), (1, None, 1.3125),
    (2, None, 2.625), (1, None, 1.3125), (1, None, 5.25), (1, None, 1.3125), (1, None, 2.625), (3, None, 1.3125),
    (1, 8, 5.25), (1, None, 1.3125), (2, None, 1.0), (1, None, 1.3125), (3, None, 1.0), (2, None, 1.3125),
    (2, None, 0.5), (2, None, 1.0), (2, None, 0.5), (1, None, 1.0), (2, None, 0.5), (9, 8, 5.25),
]  # fmt: skip
"""nvidia/Llama-3_3-Nemotron-Super-49B-v1."""
LLAMA_70B = {
    "architectures": ["DeciLMForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 8192,
    "intermediate_size": None,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "nemotron-nas",
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}


def decilm(runs: list[Run], **changes: Any) -> dict[str, Any]:
    """A DeciLM config.json: widths are `ffn_mult`, sizes that differ are null."""
    both = {"replace_with_linear": False, "sparsify": None}
    window = {"num_sink_tokens": None, "unshifted_sink": False, "window_length": None}
    attention = both | window | {"use_prefill_window_in_sink_attention": False}
    blocks = [
        {
            "attention": {"n_heads_in_group": group, "no_op": group is None, **attention},
            "ffn": {"ffn_mult": multiple, "no_op": multiple is None, **both},
        }
        for layers, group, multiple in runs
        for _ in range(layers)
    ]
    return LLAMA_70B | {"block_configs": blocks, "num_hidden_layers": len(blocks)} | changes


def test_nemotron_49b_has_its_published_size() -> None:
    shape = shape_of_config(decilm(SUPER_49B))
    assert total_params(shape) == 49_867_145_216
    assert (shape.layers, shape.heads, shape.kv_heads, shape.intermediate) == (80, 64, 8, 28672)
    assert sum(own.mixer == "none" for own in shape.each) == 31
    assert {own.intermediate for own in shape.each} == {28672, 17920, 14336, 7168, 5632, 2816}


def test_a_tiny_checkpoint_of_the_kind(tmp_path: Path) -> None:
    """Published directories have no `base_model_type`, null sizes and no `intermediate_size` in layers."""
    choices = [
        (NoOpAttention(), MlpFfn(width=256)),
        (GqaAttention(kv_heads=1), ParentFfn()),
        (LinearAttention(), LinearFfn()),
        PARENT,
    ]
    made, tokens = Made(tmp_path, choices, intermediate=512), tiny_tokens()
    path = made.out / "config.json"
    content = json.loads(path.read_text())
    content.pop("base_model_type")
    for block in content["block_configs"]:
        block["ffn"].pop("intermediate_size")
    content |= {"num_key_value_heads": None, "intermediate_size": None}
    path.write_text(json.dumps(content))
    expected = made.child(tokens).logits
    for load in (load_parent, load_child):
        assert torch.equal(load(made.out)(tokens).logits, expected)


SMALL = Shape(
    family="llama", layers=1, hidden=24, heads=8, kv_heads=4, head_dim=8, intermediate=40, vocab=9, tied=False
)
ALTERNATIVES: list[tuple[Alternative, dict[str, Any], Alternative]] = [
    (ParentAttention(), {"kv_heads": 2}, GqaAttention(kv_heads=2)),
    (ParentAttention(), {"kv_heads": 4}, ParentAttention()),
    (ParentAttention(), {"heads": 4, "kv_heads": 2}, GqaAttention(kv_heads=2, heads=4)),
    (GqaAttention(kv_heads=1), {"heads": 4, "kv_heads": 2}, GqaAttention(kv_heads=1, heads=4)),
    (GqaAttention(kv_heads=4), {"window": 9, "window_sinks": 2}, GqaAttention(kv_heads=4, window=9, sinks=2)),
    (
        GqaAttention(kv_heads=4, window=5),
        {"window": 9, "window_sinks": 2},
        GqaAttention(kv_heads=4, window=5),
    ),
    (
        GqaAttention(kv_heads=4, window=9),
        {"window": 9, "window_sinks": 6},
        GqaAttention(kv_heads=4, window=3),
    ),
    (ParentAttention(), {"mixer": "linear"}, LinearAttention()),
    (ParentAttention(), {"mixer": "none"}, NoOpAttention()),
    (NoOpAttention(), {"mixer": "linear"}, NoOpAttention()),
    (ParentFfn(), {"intermediate": 20}, MlpFfn(width=20)),
    (ParentFfn(), {"ffn": "linear"}, LinearFfn()),
    (ParentFfn(), {"ffn": "none"}, NoOpFfn()),
    (MlpFfn(width=40), {"intermediate": 60}, ParentFfn()),
]


@pytest.mark.parametrize(("alternative", "changes", "expected"), ALTERNATIVES)
def test_alternatives_in_terms_of_the_first_family(
    alternative: Alternative, changes: Mapping[str, Any], expected: Alternative
) -> None:
    assert on_base(alternative, SMALL.model_copy(update={**changes, "base": SMALL})) == expected


def test_what_is_written_is_read() -> None:
    base = shape_of_config(
        LLAMA_70B | {"model_type": "llama", "num_hidden_layers": 4, "intermediate_size": 40}
    )
    content = LLAMA_70B | {"num_hidden_layers": 4, "intermediate_size": 40, "num_key_value_heads": 64}
    content["block_configs"] = to_block_configs(MIXED, base)
    assert child_of_config(content) == (base, tuple(MIXED))
    shape = SMALL.model_copy(update={"heads": 4, "kv_heads": 2})
    choices = list(itertools.product((*ATTENTIONS, ParentAttention()), (*FFNS, ParentFfn())))
    assert from_block_configs(to_block_configs(choices, shape), shape) == choices
    same = [(GqaAttention(kv_heads=2), MlpFfn(width=40))]
    assert from_block_configs(to_block_configs(same, shape), shape) == [PARENT]


@pytest.mark.parametrize("hidden", [24, 576, 4096, 8192])
def test_ffn_mult_gives_the_width_to_runtimes_that_compute_it(hidden: int) -> None:
    """int(2 * ffn_mult * H / 3), rounded up to 256, as llama.cpp and vLLM do; elsewhere such a reader finds none."""
    shape = SMALL.model_copy(update={"hidden": hidden})
    for width in (*range(256, 30000, 256), 1, 255, 257, 1000):
        entry = to_block_configs([(ParentAttention(), MlpFfn(width=width))], shape)[0]["ffn"]
        assert entry["intermediate_size"] == width
        if width % 256:
            assert "ffn_mult" not in entry
        else:
            assert -(-int(2 * entry["ffn_mult"] * hidden / 3) // 256) * 256 == width


BAD: list[tuple[dict[str, Any], str]] = [
    ({"block_configs": None}, "block_configs is null"),
    ({"block_configs": []}, "block_configs has 0 layers, and num_hidden_layers is 80"),
    ({"base_model_type": "gpt2"}, 'base_model_type is "gpt2"; known families are'),
    ({"num_hidden_layers": 79}, "block_configs has 80 layers, and num_hidden_layers is 79"),
]
BAD_LAYERS: list[tuple[str, dict[str, Any], str]] = [
    ("attention", {"num_attention_heads": 12}, "n_heads_in_group is 8, which does not divide 12 heads"),
    ("attention", {"no_op": "yes"}, 'attention: no_op is "yes"'),
    ("attention", {"window_length": -1}, "attention: window_length is -1"),
    ("attention", {"window_length": 8, "num_sink_tokens": 8}, "num_sink_tokens is 8 of a window of 8"),
    ("attention", {"sparsify": [1]}, "attention.sparsify is [1], which is not supported"),
    ("attention", {"module": "nobody"}, 'attention: no installed package has the alternative "nobody"'),
    ("ffn", {"ffn_mult": None}, "ffn: intermediate_size is missing"),
    ("ffn", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}, "num_experts is 4"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD)
def test_a_bad_child(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadConfig) as caught:
        shape_of_config(decilm(SUPER_49B, **changes))
    assert reason in str(caught.value)


@pytest.mark.parametrize(("part", "changes", "reason"), BAD_LAYERS)
def test_a_bad_layer_is_told_with_its_place(
    tmp_path: Path, part: str, changes: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = decilm(SUPER_49B)
    content["block_configs"][1][part] |= changes
    with pytest.raises(BadConfig) as caught:
        shape_of_config(content)
    assert str(caught.value).startswith("block_configs[1]") and reason in str(caught.value)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/config.json").write_text(json.dumps(content))
    (tmp_path / "x.pzl").write_text('parent p = hf("p")\n')
    assert run(["check", str(tmp_path / "x.pzl")]) == 1
    assert "x.pzl:1" in capsys.readouterr().err
    with pytest.raises(DiagnosticError):
        load_parent(tmp_path / "p")


FIELDS = {
    "attention": "n_heads_in_group no_op replace_with_linear window_length num_sink_tokens module".split(),
    "ffn": "ffn_mult intermediate_size no_op replace_with_linear num_experts module arguments".split(),
}


@given(data=st.data())
@settings(max_examples=cases(150), deadline=None)
def test_a_corrupted_child_gives_a_shape_or_a_reason(data: st.DataObject) -> None:
    """Whatever a layer says: a shape with as many layers, or BadConfig."""
    content = decilm([(2, 8, 2.625), (1, None, 1.0), (1, 8, None)])
    for _ in range(data.draw(st.integers(1, 3))):
        layer = data.draw(st.integers(0, 3))
        part = data.draw(st.sampled_from([*FIELDS, ""]))
        value = data.draw(VALUES)
        if not part:
            content["block_configs"][layer] = value
        elif isinstance(content["block_configs"][layer], dict) and part in content["block_configs"][layer]:
            entry = content["block_configs"][layer][part]
            if isinstance(entry, dict):
                entry[data.draw(st.sampled_from(FIELDS[part]))] = value
    with suppress(BadConfig):
        shape = shape_of_config(content)
        assert len(shape.each) == shape.layers == 4
        assert total_params(shape) > 0
        kept = [(on_base(ParentAttention(), own), on_base(ParentFfn(), own)) for own in shape.each]
        base, said = child_of_config(content)
        assert shape.base == base and kept == list(said)
