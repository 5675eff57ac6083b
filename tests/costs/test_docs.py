"""docs/costs.md: its programs check, its figures are the profiles'."""

from __future__ import annotations

import re
from pathlib import Path

from puzzledsl.checker.check import check, shipped_profiles

PAGE = (Path(__file__).parents[2] / "docs" / "costs.md").read_text("utf-8")


def test_its_programs_check(tmp_path: Path) -> None:
    blocks = re.findall(r"```pzl\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "page.pzl"
        file.write_text(block, "utf-8")
        assert check(file, {}).diagnostics == ()


def test_the_errors_it_states_are_the_profiles() -> None:
    stated = {name: p.calibration_error for name, p in shipped_profiles().items() if p.calibration_error}
    text = {name: f"{float(error) * 100:.1f} %" for name, error in stated.items()}
    assert f"predicted at {text['h100_sxm']} mean error" in PAGE.replace("\n", " ")
    assert f"({text['a100']} and {text['l40s']})" in PAGE
