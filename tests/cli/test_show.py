"""`pzl show`: the lowered space, every layer and every alternative, under the names that tables use."""

import json
from math import isclose, log10
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.checker.check import check
from tests.cli.conftest import Pzl
from tests.goldens import assert_text

NEMOTRON = Path(__file__).parents[2] / "examples" / "nemotron51b.pzl"
PROGRAM = """\
parent p = shape(family: llama, layers: 6, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p {
  attention = parent | gqa(kv_heads: 2 | 1, window: full | 32) | noop
  ffn = mlp(width: 100% | 30%, round: 32) | mlp(width: 48) | linear
  layers[0, -1] = parent
  layers[2].ffn -= linear
}
space v of w { layers[1..] = parent }
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("w.pzl").write_text(PROGRAM)
    return Path("w.pzl")


def test_text(program: Path, pzl: Pzl) -> None:
    assert_text(Path(__file__).with_name("shown.txt"), pzl("show", "w.pzl", "w").out)


def shown(pzl: Pzl, *arguments: str) -> dict[str, Any]:
    return {space["name"]: space for space in json.loads(pzl("show", *arguments, "--json").out)["spaces"]}


def test_json_is_the_lowered_space(program: Path, pzl: Pzl) -> None:
    lowered = check(program, {}).program
    assert lowered is not None
    for name, space in shown(pzl, "w.pzl").items():
        it = lowered.spaces[name]
        assert [layer["layer"] for layer in space["layers"]] == list(range(6))
        for layer, choice in zip(space["layers"], it.layers, strict=True):
            assert layer["attention"] == [a.name for a in choice.attention]
            assert layer["ffn"] == [f.name for f in choice.ffn]
        children = 1
        for choice in it.layers:
            children *= len(choice.attention) * len(choice.ffn)
        assert isclose(space["log10_children"], log10(children))
        shape = lowered.parents["p"].shape
        wanted = {a.name: a.params(shape) for choice in it.layers for a in choice.attention}
        assert {a["name"]: a["params"] for a in space["alternatives"]["attention"]} == wanted
    parent, *_ = shown(pzl, "w.pzl", "w")["w"]["alternatives"]["attention"]
    size = {"params": wanted["parent"], "active_params": wanted["parent"]}
    assert parent == {"name": "parent", "heads": 8, "kv_heads": 4, "window": 0, **size}
    [mlp] = (f for f in shown(pzl, "w.pzl", "w")["w"]["alternatives"]["ffn"] if f["name"] == "mlp64")
    assert mlp["width"] == 64 and mlp["rounded_from"] == {"30%": "288/5"}


def test_the_paper_space_has_54_alternatives_a_layer(pzl: Pzl) -> None:
    layers = shown(pzl, str(NEMOTRON), "wide")["wide"]["layers"]
    assert len(layers) == 80 and max(len(x["attention"]) * len(x["ffn"]) for x in layers) == 54
    said = pzl("show", str(NEMOTRON)).out
    assert "\n10..40, 42..78 by 2  parent | gqa4 | gqa2 | gqa1 | linear | noop  " in said
    assert "space narrow of llama: known once `nemotron51b` is solved" in said
    assert "mlp24832  24,832      610.3M      86.6%      77  rounded: 87% is 24944.6\n" in said
    assert "did you mean `wide`?" in pzl("show", str(NEMOTRON), "wdie", code=1).err


def test_layers_of_several_kinds(program: Path, pzl: Pzl) -> None:
    program.write_text(
        "parent p = shape(family: gpt_oss, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, vocab: 256,\n"
        "  experts: 8, top_k: 2, expert_width: 48)\n"
        "space w of p { attention = gqa(kv_heads: 4 | 2), ffn = moe(experts: 8 | 4) }\n"
    )
    said = pzl("show", "w.pzl").out
    assert "  layers 0, 2: window 128, 8 experts of 48, 2 a token\n" in said
    assert "  layers 1, 3: all tokens, 8 experts of 48, 2 a token\n" in said
    [space] = shown(pzl, "w.pzl").values()
    found = space["alternatives"]["attention"]
    assert [(a["name"], a["window"], a["layers"]) for a in found] == [
        *[("parent", 128, [0, 2]), ("parent", 0, [1, 3])],
        *[("gqa2", 128, [0, 2]), ("gqa2", 0, [1, 3])],
    ]
    mixtures = [(a["name"], a["experts"], a["top_k"]) for a in space["alternatives"]["ffn"]]
    assert mixtures == [("parent", 8, 2), ("moe4k2w48", 4, 2)]
    assert "layers" not in space["alternatives"]["ffn"][0]
