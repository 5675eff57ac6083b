"""Laws of incremental checking: over any edits, it finds what a check of the text alone does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.reuse import Reuse
from puzzledsl.server.document import Project
from puzzledsl.server.trees import Parts
from tests.fixes.corpus import broken_programs
from tests.server.incremental import checks_alike, edited, parses_alike
from tests.server.texts import NEMOTRON, PROGRAM


def sessions(seed: int, count: int, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield files with versions of their texts: the right one, one with a mistake, and random edits of both."""
    chance = random.Random(seed)
    programs = [(b.path, b.right, b.text) for b in broken_programs(seed, count, folder)]
    programs[0] = (folder / "program.pzl", PROGRAM, PROGRAM)
    for path, right, wrong in programs:
        texts = [right, wrong, right]
        for _ in range(4):
            texts.append(edited(chance.choice([right, texts[-1]]), chance))
        yield path, [*texts, right]


def parse_all(seed: int, count: int, folder: Path) -> None:
    for _, texts in sessions(seed, count, folder):
        parts = Parts()
        for text in texts:
            assert parses_alike(parts, text), text


def check_all(seed: int, count: int, folder: Path) -> None:
    for path, texts in sessions(seed, count, folder):
        project = Project()
        for text in texts:
            assert checks_alike(project, path, text), text


def test_an_incremental_parse_is_the_parse(tmp_path: Path) -> None:
    parse_all(0, 6, tmp_path)


def test_an_incremental_check_is_the_check(tmp_path: Path) -> None:
    check_all(0, 4, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 5))
def test_incremental_parses_of_many_texts(seed: int, tmp_path: Path) -> None:
    parse_all(seed, 300, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 5))
def test_incremental_checks_of_many_texts(seed: int, tmp_path: Path) -> None:
    check_all(seed, 150, tmp_path)


def reused(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many declarations each check of a version reuses."""
    found: list[int] = []
    lower = Reuse.lower

    def counting(self: Reuse, ctx: Context, symbol: Symbol, anew: Callable[[], object]) -> object:
        found[-1] += 1

        def counted() -> object:
            found[-1] -= 1
            return anew()

        return lower(self, ctx, symbol, counted)

    monkeypatch.setattr(Reuse, "lower", counting)
    project = Project()
    for text in texts:
        found.append(0)
        assert checks_alike(project, NEMOTRON, text)
    return found


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("minimize kl", "minimize  kl", 1),  # the space alone: the other searches are of this one
        ("# one", "# One", 5),
        ('use "', '\n\nuse "', 5),  # all has moved alike
        ("scenario chat  on", "scenario chat on", 5),  # the same node
        ("attention = gqa", "attention  = gqa", 3),  # the searches: the node of the space is the same
        ("minimize kl", "minimize", 1),
        ("uptrain final of", "uptrain of", 5),  # a mistake elsewhere
    ],
)
def test_what_an_edit_does_not_touch_is_not_lowered_again(
    old: str, new: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = NEMOTRON.read_text("utf-8") + "# one\n"
    assert old in text
    assert reused([text, text.replace(old, new, 1)], monkeypatch) == [0, count]
