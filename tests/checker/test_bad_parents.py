"""Property: a parent that cannot be is one error in its line, an alternative that a layer cannot have one in its own.

Nothing is written either way.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.checker.check import check
from puzzledsl.families.registry import FAMILIES
from tests.cases import cases
from tests.families.test_corrupted_configs import SOUND, VALUES, fields_of

quick = settings(
    max_examples=cases(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def errors(folder: Path, config: dict[str, Any], body: str) -> list[tuple[str, int]]:
    """Codes and lines of the errors of a program whose parent is in line 1 and whose space begins in line 2."""
    (folder / "parent").mkdir(exist_ok=True)
    (folder / "parent" / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "t.pzl").write_text(f'parent p = hf("parent")\nspace w of p {{\n{body}\n}}\n', "utf-8")
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found = check(folder / "t.pzl", {})
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
    wrong = [d for d in found.diagnostics if d.severity == "error"]
    assert (found.program is None) == bool(wrong)
    assert all(d.span is not None for d in wrong)
    return [(d.code, d.span.line) for d in wrong if d.span is not None]


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
@quick
@given(data=st.data())
def test_a_corrupted_config_is_an_error_in_the_parents_line(
    family: str, tmp_path: Path, data: st.DataObject
) -> None:
    content, known = SOUND | {"model_type": family}, family in FAMILIES
    for field in data.draw(st.lists(st.sampled_from(fields_of(family) if known else ["x"]), max_size=3)):
        if data.draw(st.booleans()):
            content[field] = data.draw(VALUES)
        else:
            content.pop(field, None)
    assert errors(tmp_path, content, "ffn = parent") in ([[("E0407", 1)], []] if known else [[("E0407", 1)]])


@quick
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40))
def test_experts_that_are_not_there(tmp_path: Path, experts: int, top_k: int, width: int) -> None:
    """The parent has 8 experts of 32 channels in a layer, 2 of a token."""
    body = f"ffn = moe(experts: {experts}, top_k: {top_k}, width: {width}, round: 1)"
    found = errors(tmp_path, SOUND | {"model_type": "qwen3_moe"}, body)
    codes = {"E0304": experts > 8 or width > 32, "E0411": experts <= 8 and top_k > experts}
    assert {code for code, _ in found} <= {code for code, wrong in codes.items() if wrong}
    assert bool(found) == any(codes.values())
    assert {line for _, line in found} <= {3}


CAN = {
    ("attention", 0): {"linear", "noop"},
    ("attention", 2): {"gqa(window: 8)", "gqa(kv_heads: 2)", "linear", "noop"},
    ("ffn", 1): {"mlp(width: 50%)", "linear", "noop"},
    ("ffn", 3): {"moe(experts: 4)", "mlp(width: 50%)", "linear", "noop"},
}
"""What a layer may become of a parent whose layers are Mamba2, an FFN, attention and a mixture."""


@quick
@given(
    st.sampled_from(["attention", "ffn"]),
    st.integers(0, 3),
    st.sampled_from(sorted(set().union(*CAN.values()))),
)
def test_an_alternative_in_a_layer_that_cannot_have_it(
    tmp_path: Path, sub_block: str, layer: int, alternative: str
) -> None:
    config = SOUND | {"model_type": "nemotron_h"}
    found = errors(tmp_path, config, f"ffn = parent\nlayers[{layer}].{sub_block} = {alternative}")
    if alternative in CAN.get((sub_block, layer), ()):
        assert not found
    else:
        assert [line for _, line in found] == [4]
