"""What pyproject.toml says in two places, it says alike."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from scripts import branches, lowest
from scripts.branches import Figures, by_package

ROOT = Path(__file__).parents[1]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]


def test_what_is_measured_and_mutated_is_there() -> None:
    """What the import contract forbids torch is not among what coverage leaves out."""
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


@pytest.mark.parametrize(
    ("figures", "floor", "code"),
    [
        (Figures(lines=100, lines_taken=95, branches=20, branches_taken=19), 95, 0),
        (Figures(lines=100, lines_taken=99, branches=20, branches_taken=18), 95, 1),
        (Figures(lines=100, lines_taken=94, branches=20, branches_taken=20), 95, 1),
        (Figures(), 100, 0),
    ],
)
def test_branches_and_lines_below_the_floor_fail(
    figures: Figures, floor: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "measured", lambda whole: {"ir/a.py": figures})
    assert branches.main(["--floor", str(floor)]) == code


def test_a_smaller_share_than_the_recorded_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "strength.json"
    for taken, more, code in ((19, ["--write"], 0), (19, [], 0), (20, [], 0), (18, [], 1)):
        figures = Figures(lines=100, lines_taken=100, branches=20, branches_taken=taken)
        monkeypatch.setattr(branches, "measured", lambda whole, figures=figures: {"ir/a.py": figures})
        assert branches.main(["--record", str(record), *more]) == code


def test_figures_are_added_by_package() -> None:
    one, two, three = Figures(1, 1, 2, 1), Figures(2, 1, 4, 3), Figures(5, 0, 0, 0)
    found = by_package({"ir/a.py": one, "ir/lower/b.py": two, "units.py": three})
    assert found == {".": three, "ir": Figures(3, 2, 6, 4)}
