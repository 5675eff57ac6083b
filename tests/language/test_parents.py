"""Parents: checkpoints, literal shapes, layers that differ, facts."""

import json
from pathlib import Path

import pytest

from puzzledsl.alternatives.shape import StateShape
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir import nodes
from tests.language.rules import SHAPE, codes, outcome, program

EXPERTS = "experts: 4, top_k: 2, expert_width: 8"


@pytest.mark.states("parent.config", "parent.verified", "parent.hf")
def test_config_json(tmp_path: Path) -> None:
    """`config.json` of a mixture whose first layer is dense gives the parent's shape; a shape that the program writes must agree."""
    config = {
        "model_type": "qwen3_moe", "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 4, "intermediate_size": 32, "vocab_size": 64, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 8, "mlp_only_layers": [0],
    }  # fmt: skip
    sizes = f"hidden: 16, heads: 4, kv_heads: 2, head_dim: 4, vocab: 64, {EXPERTS}"
    (tmp_path / "model").mkdir()

    def said(shape: str = "", **changes: object) -> str:
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | changes))
        argument = f", shape: shape(family: qwen3_moe, layers: 3, {sizes}{shape})" if shape else ""
        shown = outcome(tmp_path, f'parent q = hf("model"{argument})').diagnostics
        return " ".join(f"{d.code} {d.message} {d.help}" for d in shown if d.severity == "error")

    assert said() == ""
    found = program(tmp_path, 'parent q = hf("model")\nassert q.layers == 3 and q.vocab == 64').parents["q"]
    assert found.source == nodes.HfSource(id="model")
    assert values(found.shape, "ffn") == ["dense", "moe", "moe"]
    assert said(", dense_first: 1, intermediate: 32") == ""
    assert "layers[1].ffn=dense" in said(", dense_first: 2, intermediate: 32")
    assert "E0406" in said(", dense_first: 1, intermediate: 48")
    assert "shape says layers[0].intermediate=48" in said(", dense_first: 1, intermediate: 48")
    assert said(num_experts_per_tok=5).startswith("E0407")
    assert "top_k=5 is more than experts=4" in said(num_experts_per_tok=5)
    assert said(num_local_experts=8).startswith("E0407")
    assert said(mlp_only_layers=[3]).startswith("E0407")


def values(shape: nodes.Shape, field: str) -> list[object]:
    return [getattr(own, field) for own in shape.each]


@pytest.mark.states("parent.shape", "parent.shape-defaults", "parent.families")
@pytest.mark.parametrize("family", [name for name, says in FAMILIES.items() if "mixer" not in says.takes])
def test_shapes(tmp_path: Path, family: str) -> None:
    own = {
        "experts": f", {EXPERTS}",
        "pattern": ', pattern: "M*"',
        "mixer": ", mixer: mamba2(heads: 4, head_dim: 8, groups: 2, state: 8)",
    }
    usual = FAMILIES[family].literal
    takes = "".join(own[name] for name in FAMILIES[family].takes if name in own)
    takes += ", window: 8" if "full_every" in usual else ""
    if "delta_net" in usual.values():
        takes = (
            takes.replace("mamba2", "delta_net").replace("groups", "key_heads").replace("state", "key_dim")
        )
    found = program(tmp_path, f"parent q = shape(family: {family}, {SHAPE}{takes})").parents["q"]
    assert found.source == nodes.ShapeSource()
    shape = found.shape
    assert shape.kv_heads == 4
    for flag in ("tied", "attention_bias", "output_bias", "mlp_bias", "qk_norm"):
        assert getattr(shape, flag) == usual.get(flag, False)


@pytest.mark.states("parent.layers", "parent.pattern", "parent.mixer")
def test_rules_for_layers(tmp_path: Path) -> None:
    sizes = "hidden: 16, heads: 4, kv_heads: 2, head_dim: 4, vocab: 64"
    text = (
        f"parent a = shape(family: qwen3, {sizes}, layers: 6, intermediate: 32, window: 8, full_every: 3)\n"
        f"parent b = shape(family: qwen3_moe, {sizes}, layers: 3, {EXPERTS}, intermediate: 32, dense_first: 1)\n"
        f"parent c = shape(family: qwen3_next, {sizes}, layers: 4, {EXPERTS}, attention_every: 2,\n"
        "  mixer: delta_net(heads: 4, head_dim: 8, key_heads: 2, key_dim: 16))\n"
        f'parent d = shape(family: nemotron_h, {sizes}, pattern: "M-M*E", {EXPERTS}, intermediate: 32,\n'
        "  mixer: mamba2(heads: 4, head_dim: 8, groups: 2, state: 16, conv: 3))\n"
        f"parent e = shape(family: gpt_oss, {sizes}, layers: 4, {EXPERTS})\n"
    )
    found = {name: parent.shape for name, parent in program(tmp_path, text).parents.items()}
    assert values(found["a"], "window") == [8, 8, None, 8, 8, None]
    assert values(found["b"], "ffn") == ["dense", "moe", "moe"]
    assert values(found["c"], "mixer") == ["delta_net", "attention"] * 2
    assert found["c"].state == StateShape(heads=4, head_dim=8, groups=2, state=16, conv=4)
    assert found["d"].layers == 5
    assert values(found["d"], "mixer") == ["mamba2", "none", "mamba2", "attention", "none"]
    assert values(found["d"], "ffn") == ["none", "dense", "none", "none", "moe"]
    assert found["d"].state == StateShape(heads=4, head_dim=8, groups=2, state=16, conv=3)
    assert values(found["e"], "window") == [128, None] * 2
    assert found["e"].sinks


@pytest.mark.states("parent.layer-facts", "parent.differs")
def test_facts_of_layers(tmp_path: Path) -> None:
    text = (
        "parent q = shape(family: gpt_oss, hidden: 16, heads: 4, kv_heads: 2, head_dim: 4, vocab: 64, layers: 4,\n"
        "  experts: 4, top_k: 2, expert_width: 8)\n"
        "assert q.layers == 4 and q.experts == 4 and q.top_k == 2 and q.kv_heads == 2 and q.intermediate == 0\n"
        "assert q.layers[0].window == 128 and q.layers[-1].window == 0 and q.layers[1].experts == 4\n"
        'assert q.layers[0].mixer == "attention" and q.layers[0].ffn == "moe"\n'
        "assert sum(q.layers[i].params for i in 0..3) < q.params and q.active_params < q.params\n"
    )
    program(tmp_path, text)
    assert codes(tmp_path, text + "assert q.window == 128") == "E0319"
    assert codes(tmp_path, text + "assert q.layers[4].window == 128") == "E0401"
    assert codes(tmp_path, text + "assert q.layers[0..1].window == 128") == "E0303"
    assert codes(tmp_path, text + "assert q.layers[0].height == 128") == "E0206"
