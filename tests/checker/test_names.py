"""Files, imports, parameters, scopes."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.ir import nodes
from tests.checker.programs import TINY, checked, lowered, mistakes


def test_a_declaration_of_another_file(tmp_path: Path) -> None:
    """What a used space needs comes with it; what nobody refers to does not."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "base.pzl").write_text(TINY + "search unused of w { minimize kl }\n")
    text = 'use "lib/base.pzl" (w, kl)\nsearch s of w { minimize kl }\n'
    program = lowered(tmp_path, text)
    assert list(program.spaces) == ["w"] and list(program.parents) == ["p"]
    assert list(program.searches) == ["s"] and list(program.scores) == ["kl"]
    assert program.hardware == {} and program.scenarios == {}
    assert program.spaces["w"].where.file == "lib/base.pzl"


def test_two_declarations_of_one_name(tmp_path: Path) -> None:
    """A used file's own `p` keeps apart from the program's."""
    (tmp_path / "base.pzl").write_text(TINY)
    text = 'use "base.pzl" (w)\nparent p = hf("x", shape: shape(family: llama, layers: 2, hidden: 8, heads: 2, head_dim: 4,\n'
    text += "  intermediate: 8, vocab: 8))\nspace v of p { ffn = parent | noop }\nsearch s of w { maximize params }\n"
    program = lowered(tmp_path, text)
    assert set(program.parents) == {"p", "base_p"}
    assert program.spaces["w"].parent == "base_p" and len(program.spaces["w"].layers) == 4
    assert program.spaces["v"].parent == "p" and len(program.spaces["v"].layers) == 2


def test_ways_to_use(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let half = 50%\nfn twice(x) = 2 * x\nparam top: Count = 3\n")
    for use, prefix in (("", ""), (" as lib", "lib."), (" (half, twice, top)", "")):
        text = f'use "lib.pzl"{use}\nassert {prefix}twice({prefix}half) == 1 and {prefix}top == 3\n'
        assert mistakes(tmp_path, text) == []
        assert mistakes(tmp_path, text.replace("== 1", "== 2")) == [("E0221", 2)]


def test_an_imported_name_is_imported_on(tmp_path: Path) -> None:
    (tmp_path / "a.pzl").write_text('use "std/hardware.pzl" (h200)\n')
    program = lowered(tmp_path, 'use "a.pzl" (h200)\nhardware h = h200(gpus: 2)\n')
    spec = program.hardware["h"].spec
    assert isinstance(spec, nodes.RooflineHardware) and spec.profile == "h200"


def test_mistakes_of_used_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let good = 1\nlet bad = 1 + 1s\n")
    found = checked(tmp_path, 'use "lib.pzl" (good)\n')
    assert [(d.code, d.span.file if d.span else "") for d in found.diagnostics] == [
        ("E0302", str(tmp_path / "lib.pzl"))
    ]
    assert str(tmp_path / "lib.pzl") in found.sources


def test_order_of_declarations_is_free(tmp_path: Path) -> None:
    lines = TINY.replace("let", "").splitlines()
    forwards = lowered(tmp_path, "\n".join(lines) + "\n")
    backwards = lowered(tmp_path, "\n".join(reversed(lines)) + "\n")
    assert forwards.spaces["w"].layers == backwards.spaces["w"].layers
    assert forwards.scores.keys() == backwards.scores.keys()


@pytest.mark.parametrize(
    ("declared", "given", "shown"),
    [
        ("param x: Ratio = 95%", "0.9", "x == 90%"),
        ("param x: Count = 3", "4Ki", "x == 4096"),
        ("param x: Bytes = 1GiB", "2GiB", "x == 2048MiB"),
        ("param x: Time", "3ms", "x == 0.003s"),
        ("param x: Bool = false", "true", "x"),
        ('param x: Text = "a"', "fp8", 'x == "fp8"'),
        ('param x: Text = "a"', '"b c"', 'x == "b c"'),
        ("param x: Bandwidth = 1TB/s", "2TB/s", "x == 2000GB/s"),
        ("let y = 2\nparam x: Count = 3", "y * 5", "x == 10"),
    ],
)
def test_set(tmp_path: Path, declared: str, given: str, shown: str) -> None:
    text = f"{declared}\nassert {shown}\n"
    program = lowered(tmp_path, text, x=given)
    assert program.params == {"x": given}
    if "= " in declared.splitlines()[-1]:
        assert [code for code, _ in mistakes(tmp_path, text)] == ["E0221"]


@pytest.mark.parametrize("given", ["1 +", "", "x = 3", "3\nlet y = 4", "}", "nothing", "layers[0]"])
def test_set_of_nonsense(tmp_path: Path, given: str) -> None:
    found = checked(tmp_path, "param x: Ratio = 95%\n", x=given)
    assert found.program is None and found.diagnostics


def test_a_word_of_the_language_may_be_a_name(tmp_path: Path) -> None:
    text = TINY + "search greedy of w { minimize kl }\nsearch s of greedy { solver = greedy }\n"
    assert lowered(tmp_path, text).searches["s"].solver == nodes.Baseline(kind="greedy")


def test_dtype_through_a_parameter(tmp_path: Path) -> None:
    text = 'use "std/hardware.pzl" (h100_sxm)\nparam precision: Text = "fp8"\nhardware h = h100_sxm(dtype: precision)\n'
    spec = lowered(tmp_path, text).hardware["h"].spec
    assert isinstance(spec, nodes.RooflineHardware) and spec.dtype == "fp8"


def test_docs_are_kept(tmp_path: Path) -> None:
    text = "## What a layer may become.\n" + TINY.splitlines()[0] + "\n"
    assert lowered(tmp_path, text).parents["p"].doc == "What a layer may become."


def test_a_missing_file_is_a_diagnostic(tmp_path: Path) -> None:
    found = check(tmp_path / "none.pzl", {})
    assert [d.code for d in found.diagnostics] == ["E0016"]
    assert found.program is None


def test_data_defaults_to_the_only_one(tmp_path: Path) -> None:
    text = (
        TINY
        + 'data d = text("a.txt", "b/*.txt")\nbld b of w { tokens = 1M }\nscore s of b = replace_one(lm_loss)\n'
    )
    text += (
        'search best of w { minimize s }\nuptrain u of best { tokens = 1M }\neval e of u = tasks("t.jsonl")\n'
    )
    program = lowered(tmp_path, text)
    assert program.data["d"].source == nodes.TextData(paths=("a.txt", "b/*.txt"))
    method = program.scores["s"].method
    assert isinstance(method, nodes.ReplaceOne)
    assert {program.blds["b"].data, method.data, program.uptrains["u"].data, program.evals["e"].data} == {"d"}
