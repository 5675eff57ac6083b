"""The pages made from the code are what the code makes."""

from __future__ import annotations

import re
from functools import cache

import pytest

from puzzledsl.cli.app import COMMANDS
from puzzledsl.ir.engines import RUNTIMES
from scripts.reference import PAGES
from tests.documents import ROOT


@cache
def made(name: str) -> str:
    return "\n".join(PAGES[name]())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == made(name), "run `python scripts/reference.py`"


def test_every_command_has_a_section() -> None:
    sections = set(re.findall(r"^### pzl ([\w-]+)", made("cli.md"), re.MULTILINE))
    assert sections == set(COMMANDS)


def test_every_runtime_has_a_column() -> None:
    assert all(f"| {runtime.title}" in made("std.md") for runtime in RUNTIMES.values())
