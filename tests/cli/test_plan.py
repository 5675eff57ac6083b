"""`pzl plan`: programs, build directories and settings; exit codes as terraform's."""

import json
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from tests.changes.test_compare import BASE
from tests.cli.conftest import Pzl
from tests.goldens import assert_text


@pytest.fixture(autouse=True)
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.pzl").write_text(BASE)
    Path("new.pzl").write_text(BASE.replace("minimize kl", "minimize 2 * kl").replace("<= 2\n", "<= 3\n"))


def test_text(pzl: Pzl) -> None:
    assert_text(Path(__file__).with_name("planned.txt"), pzl("plan", "old.pzl", "new.pzl").out)


def test_json(pzl: Pzl) -> None:
    found = json.loads(pzl("plan", "old.pzl", "new.pzl", "--json").out)
    assert found["summary"] == {"add": 0, "change": 2, "remove": 0}
    best = found["changes"][0]
    assert (best["action"], best["kind"], best["name"]) == ("change", "search", "best")
    assert best["details"][0] == {"what": "goal", "old": "minimize kl", "new": "minimize 2 * kl"}


def test_a_program_with_mistakes_has_no_plan() -> None:
    Path("bad.pzl").write_text(BASE.replace("minimize kl", "minimize kll"))
    assert run(["plan", "old.pzl", "bad.pzl"]) == 1
    assert run(["plan", "bad.pzl", "old.pzl"]) == 1


def test_a_build_directory_is_what_was_compiled(pzl: Pzl) -> None:
    pzl("compile", "old.pzl", "-o", "build")
    for before, after in (("build", "old"), ("build/ir.json", "new"), (".", "new")):  # its build/ is found
        assert pzl("plan", before, f"{after}.pzl").out.startswith("No changes") == (after == "old")


def test_what_is_no_program_is_told(pzl: Pzl) -> None:
    Path("empty").mkdir()
    Path("odd.json").write_text("{}")
    for what in ("empty", "odd.json", "none.json"):
        said = pzl("plan", what, "old.pzl", code=1).err
        assert "error[E0624]: no program in `" in said and "`pzl compile` writes it" in said
