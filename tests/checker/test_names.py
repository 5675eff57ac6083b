"""Files, imports, parameters, scopes."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from tests.checker.programs import checked, lowered, mistakes


def test_ways_to_use(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let half = 50%\nfn twice(x) = 2 * x\nparam top: Count = 3\n")
    for use, prefix in (("", ""), (" as lib", "lib."), (" (half, twice, top)", "")):
        text = f'use "lib.pzl"{use}\nassert {prefix}twice({prefix}half) == 1 and {prefix}top == 3\n'
        assert mistakes(tmp_path, text) == []
        assert mistakes(tmp_path, text.replace("== 1", "== 2")) == [("E0221", 2)]


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


def test_dtype_through_a_parameter(tmp_path: Path) -> None:
    text = 'use "std/hardware.pzl" (h100_sxm)\nparam precision: Text = "fp8"\nhardware h = h100_sxm(dtype: precision)\n'
    spec = lowered(tmp_path, text).hardware["h"].spec
    assert isinstance(spec, nodes.RooflineHardware) and spec.dtype == "fp8"
