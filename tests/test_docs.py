"""Blocks of README and docs, extracted and run: they show what the files hold and what pzl says."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.cases import more
from tests.documents import ROOT, Runner, blocks, documents, fits, sessions

LONG = ROOT / "docs" / "examples.md"
"""The page of commands whose programs `tests/examples` compiles and solves."""
PAGES = [page if page != LONG else more(page)[0] for page in documents()]


@pytest.mark.parametrize("document", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_is_true(document: Path, tmp_path: Path) -> None:
    problems = list(Runner(tmp_path).run(blocks(document)))
    assert not problems, "\n\n".join(problems)


def test_the_first_program_is_the_demo_s_and_short() -> None:
    first = blocks(ROOT / "README.md")[0]
    assert first.language == "pzl" and len(first.text.splitlines()) <= 28
    assert first.settings["same-as"] == "examples/smollm2/chat.pzl"


def test_what_readme_and_the_example_use_is_installed() -> None:
    """`pzl explore` and the engine of the first program want libraries beyond pzl's own: those of extras that README names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    readme = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"pip install '\.\[([a-z,]+)\]'", readme)
    assert named == ["explore"] and "pzl explore" in readme and "`pzl explore`" in readme
    assert {package.split(">")[0] for package in extras["explore"]} == {"starlette", "uvicorn"}
    assert "puzzledsl[explore]" in extras["examples"], "`make demo` installs it"
    assert ".[examples]" in (ROOT / "Makefile").read_text("utf-8")


def test_a_line_of_dots_stands_for_any_lines() -> None:
    assert fits("a\n…\nd\n", "a\nb\nc\nd\n")
    assert fits("a\n…\nd\n", "a\nd\n")
    assert not fits("a\n…\nd\n", "a\nb\n")
    assert not fits("a\n", "a\nb\n")
    assert list(sessions("$ a\nb\n$ c\n")) == [("a", "b\n"), ("c", "")]
