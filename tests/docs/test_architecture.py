"""docs/architecture.md names functions that exist, in an order that never returns to a folder, every folder, and a trace."""

import ast
import re
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from types import FrameType

import pytest

from puzzledsl.checker.check import check
from tests.documents import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
MOST_HOPS = 25
_HOP = re.compile(r"^\| (\d+) \| \[`([\w.]+)`\]\(\.\./(puzzledsl/[\w/]+\.py)\) \| (.+) \|$", re.MULTILINE)
_FOLDER = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


HOPS = _HOP.findall(section("The walk"))


def defines(path: Path, name: str) -> bool:
    """True if a file defines a function, or `Class.method`, of this name."""
    body: list[ast.stmt] = ast.parse(path.read_text("utf-8")).body
    *classes, function = name.split(".")
    for owner in classes:
        body = [s for c in body if isinstance(c, ast.ClassDef) and c.name == owner for s in c.body]
    return any(isinstance(s, ast.FunctionDef) and s.name == function for s in body)


def test_the_walk_is_short_and_numbered_and_never_returns_to_a_folder() -> None:
    rows = [line for line in section("The walk").splitlines() if line.startswith("| ")][1:]
    assert len(HOPS) == len(rows), "a row is not `| number | [`function`](file) | sentence |`"
    assert [int(number) for number, *_ in HOPS] == list(range(1, len(HOPS) + 1))
    assert 20 <= len(HOPS) <= MOST_HOPS
    folders = [folder for folder, _ in groupby(file.split("/")[1] for _, _, file, _ in HOPS)]
    assert len(folders) == len(set(folders)) > 5, "the walk returns to a folder"


@pytest.mark.parametrize(("number", "name", "file", "sentence"), HOPS, ids=[hop[1] for hop in HOPS])
def test_a_hop_names_a_function_that_exists(number: str, name: str, file: str, sentence: str) -> None:
    assert (ROOT / file).is_file()
    assert defines(ROOT / file, name), f"hop {number}: {file} defines no {name}"
    assert sentence.startswith("Gets ") and " gives " in sentence and sentence.endswith(".")


def test_the_map_has_every_folder_in_the_order_of_imports() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    named = [folder for folder, _ in _FOLDER.findall(section("The folders"))]
    assert named == tools["importlinter"]["contracts"][0]["layers"][::-1]


FIVE_LINES = """\
parent p = shape(family: llama, layers: 30, hidden: 576, heads: 9, kv_heads: 3, head_dim: 64, intermediate: 1536, vocab: 49152)
space w of p {
  attention = parent | gqa(kv_heads: 1)
  ffn = parent | noop
}
"""
MOST_CALLS, MOST_CHANGES = 1_000, 25


def trace(path: Path) -> list[str]:
    """Return the folder of every function of the package that the check of a file calls; comprehensions are no functions."""
    package = f"{ROOT / 'puzzledsl'}/"
    found: list[str] = []

    def called(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package) and not code.co_name.startswith("<"):
            found.append(code.co_filename.removeprefix(package).partition("/")[0])

    sys.setprofile(called)
    try:
        checked = check(path)
    finally:
        sys.setprofile(None)
    assert checked.program is not None
    return found


def test_a_check_of_five_lines_is_as_short_as_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "five.pzl"
    path.write_text(FIVE_LINES, "utf-8")
    check(path)  # loads what is loaded once
    folders = trace(path)
    changes = len([*groupby(folders)])
    assert "alternatives" in folders and "syntax" in folders, "the tracer sees nothing"
    assert len(folders) <= MOST_CALLS and changes <= MOST_CHANGES, (len(folders), changes)
    (calls_shown, changes_shown) = re.findall(r"makes ([\d,]+) calls .*? (\d+) changes of folder", PAGE)[0]
    assert abs(int(calls_shown.replace(",", "")) - len(folders)) <= 50 and int(changes_shown) == changes
