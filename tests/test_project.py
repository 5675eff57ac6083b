"""Settings of pyproject.toml agree with each other and with the repository."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts import lowest

ROOT = Path(__file__).parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]


def test_what_is_measured_and_mutated_is_there() -> None:
    """Packages that must not import torch are all covered; packages and paths that settings name exist."""
    contracts = TOOLS["importlinter"]["contracts"]
    (without_torch,) = (c for c in contracts if c["name"].startswith("Text to solution"))
    named = {module.removeprefix("puzzledsl.") for module in without_torch["source_modules"]}
    left_out = {
        pattern.removeprefix("*/puzzledsl/").removesuffix("/*")
        for pattern in TOOLS["coverage"]["report"]["omit"]
    }
    assert named.isdisjoint(left_out)
    assert all((ROOT / "puzzledsl" / package).is_dir() for package in left_out)
    mutmut = TOOLS["mutmut"]
    for pattern in (*mutmut["only_mutate"], *mutmut["pytest_add_cli_args_test_selection"]):
        assert list(ROOT.glob(pattern)), pattern


def test_every_dependency_has_tested_bounds() -> None:
    """The oldest versions are those of `make test-lowest`; those installed here are below the upper bounds."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    assert len(lowest.constraints(dependencies)) == len(dependencies)
    for dependency in dependencies:
        known = lowest.BOUNDS.fullmatch(dependency)
        assert known is not None
        here = _parts(version(known["name"]))
        assert _parts(known["lower"]) <= here < _parts(known["upper"]), dependency
    with pytest.raises(ValueError, match="`torch>=2` has no lower and upper bound"):
        lowest.constraints(["torch>=2"])


def _parts(text: str) -> list[int]:
    return [int(part) for part in text.partition("+")[0].split(".") if part.isdigit()]
