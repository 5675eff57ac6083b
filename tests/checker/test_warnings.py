"""Warnings: each where it belongs, and none where a program may well be meant as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.resources import listing, resource
from puzzledsl.checker.check import check
from tests.checker.programs import ROOT, TINY, checked

SEARCH = "search s of w { minimize kl }\n"


def warned(folder: Path, text: str) -> list[tuple[str, str]]:
    """Code and underlined text of every warning; an error fails the test."""
    found = checked(folder, text)
    assert found.program is not None, [repr(d) for d in found.diagnostics]
    lines = text.split("\n")
    return [
        (d.code, lines[d.span.line - 1][d.span.column - 1 : d.span.end_column - 1])
        for d in found.diagnostics
        if d.span is not None
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("search t of w { minimize kl, let spare = 3 }", "spare"),
        ("let spare = 3", "spare"),
        ("param spare: Ratio = 90%", "spare"),
        ("fn spare(x) = x / 2", "spare"),
        ('data spare = text("a.txt")\ndata other = text("b.txt")\nbld b of w { train = ffn, tokens = 0, data = other }', "spare"),
        ("hardware spare = measured(device: cpu)", "spare"),
        ("parent spare = p_shape()\nfn p_shape() = shape(family: llama, layers: 1, hidden: 8, heads: 1, head_dim: 8, "
         "intermediate: 8, vocab: 8)", "spare"),
    ],
)  # fmt: skip
def test_what_serves_nobody(line: str, name: str, tmp_path: Path) -> None:
    assert warned(tmp_path, f"{TINY}{line}\n{SEARCH}") == [("W0201", name)]


@pytest.mark.parametrize(
    "text",
    [
        'data mix = text("a.txt")\nbld b of w { train = ffn, tokens = 0 }\n' + SEARCH,  # the default everywhere
        "let _spare = 3\n" + SEARCH,
        "let half = 2\nfn unused_twice(x) = x / half\nlet it = unused_twice(4)\nassert it == 2\n" + SEARCH,
        "let spare = 3\n",  # no search: a file for others
        "score other of w = table(\"b.csv\")\nbld b of w { train = ffn, tokens = 0 }\n" + SEARCH,
        "search s of w { minimize kl, let most = 3, require count(ffn is noop) <= most }\n",
        "search s of w { minimize kl, for i in 1..3 { require layers[i].ffn is noop } }\n",
        "scenario unused on h = batch(1, 8 -> 8)\n" + SEARCH,  # `pzl cost` prints it
        "param most: Count = if true then 2 else only_here\nlet only_here = 3\n"
        "search s of w { minimize kl, require count(ffn is noop) <= most }\n",
    ],
)  # fmt: skip
def test_what_may_be_meant(text: str, tmp_path: Path) -> None:
    assert warned(tmp_path, TINY + text) == []


def test_unused_imports_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "sizes.pzl").write_text("let one = 1\nlet two = 2\nlet three = 3\n")
    text = TINY + 'use "sizes.pzl" (one, two, three)\nassert two == 2\n' + SEARCH
    assert warned(tmp_path, text) == [("W0202", "one"), ("W0202", "three")]


def test_a_program_with_mistakes_has_no_further_warnings(tmp_path: Path) -> None:
    found = checked(tmp_path, TINY + "let spare = 3\nsearch s of w { minimize kll }\n")
    assert [d.code for d in found.diagnostics] == ["E0201"]


def test_examples_and_shipped_files_are_free_of_warnings() -> None:
    files = [*sorted((ROOT / "examples").rglob("*.pzl")), *(resource("spaces", n) for n in listing("spaces"))]
    assert len(files) >= 6
    for file in files:
        assert [repr(d) for d in check(file, {}).diagnostics] == [], file
