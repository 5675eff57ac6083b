"""What pyproject.toml says in two places, it says alike."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]


def test_coverage_is_measured_of_all_that_never_imports_torch() -> None:
    """What the import contract forbids torch is not among what coverage leaves out."""
    contracts = TOOLS["importlinter"]["contracts"]
    (without_torch,) = (c for c in contracts if c["name"].startswith("Text to solution"))
    named = {module.removeprefix("puzzledsl.") for module in without_torch["source_modules"]}
    left_out = {
        pattern.removeprefix("*/puzzledsl/").removesuffix("/*")
        for pattern in TOOLS["coverage"]["run"]["omit"]
    }
    assert named.isdisjoint(left_out)
    assert all((ROOT / "puzzledsl" / package).is_dir() for package in left_out)


def test_what_is_mutated_and_the_tests_that_look_are_there() -> None:
    mutmut = TOOLS["mutmut"]
    for pattern in (*mutmut["only_mutate"], *mutmut["pytest_add_cli_args_test_selection"]):
        assert list(ROOT.glob(pattern)), pattern
