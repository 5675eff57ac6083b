"""Pages made from the code are what it makes; how-tos that extend it name every place there is, and none that is not."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from puzzledsl.cli.app import COMMANDS
from puzzledsl.ir.engines import RUNTIMES
from scripts.reference import PAGES as MADE
from tests.documents import ROOT


@cache
def made(name: str) -> str:
    return "\n".join(MADE[name]())


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == made(name), "run `python scripts/reference.py`"


def test_every_command_has_a_section_and_every_runtime_a_column() -> None:
    assert {*re.findall(r"^### pzl ([\w-]+)", made("cli.md"), re.MULTILINE)} == {*COMMANDS}
    assert all(f"| {runtime.title}" in made("std.md") for runtime in RUNTIMES.values())


HOWTO = ROOT / "docs" / "howto"
PAGES = sorted(HOWTO.glob("add-*.md"))
_PATH = r"`([\w-]+(?:/[\w.-]+)*\.\w+)`"
_PLACES = re.compile(rf"((?:{_PATH}(?:, )?)+): ((?:`[\w.-]+`(?:, )?)+)")


def places(page: Path) -> Iterator[tuple[Path, str]]:
    """`FILE`: `NAME`, `NAME` of a page, as pairs of a file and one name in it."""
    text = re.sub(r"\n +", " ", page.read_text("utf-8"))
    for match in _PLACES.finditer(text):
        for path in re.findall(_PATH, match.group(1)):
            for name in re.findall(r"`([^`]+)`", match.group(3)):
                yield ROOT / path, name


def has_word(path: Path, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", path.read_text("utf-8")) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_place_named_exists(page: Path) -> None:
    named = list(places(page))
    assert len(named) >= 5
    assert [(str(p), name) for p, name in named if not (p.is_file() and has_word(p, name))] == []
    loose = re.findall(r"`((?:puzzledsl|tests|spaces|docs)/[\w./-]+\.\w+)`", page.read_text("utf-8"))
    assert [path for path in loose if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        ("add-family.md", r"\bqwen3\b"),
        ("add-alternative.md", r"\b(LinearAttention|LinearFfn)\b"),
        ("add-runtime.md", r"\bllama_cpp\b|\"gguf\""),
    ],
)
def test_every_place_that_knows_the_model_to_follow_is_named(page: str, pattern: str) -> None:
    text = (HOWTO / page).read_text("utf-8")
    sources = [*(ROOT / "puzzledsl").rglob("*.py"), *(ROOT / "spaces").rglob("*.pzl")]
    knowing = [str(p.relative_to(ROOT)) for p in sources if re.search(pattern, p.read_text("utf-8"))]
    assert sorted(path for path in knowing if path not in text) == []
