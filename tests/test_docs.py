"""Blocks of README and docs, extracted and run: they show what the files hold and what pzl says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import REASONS, ROOT, Block, Runner, blocks, documents, fits, sessions


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_is_true(document: Path, tmp_path: Path) -> None:
    problems = list(Runner(tmp_path).run(blocks(document)))
    assert not problems, "\n\n".join(problems)


def test_the_first_program_is_the_demo_s_and_short() -> None:
    first = blocks(ROOT / "README.md")[0]
    assert first.language == "pzl" and len(first.text.splitlines()) <= 28
    assert first.settings["same-as"] == "examples/smollm2/chat.pzl"


# ---------------------------------------------------------------- the tests of the test


def block(language: str, text: str, *flags: str, **settings: str) -> Block:
    """A block as if written in README.md."""
    return Block(ROOT / "README.md", 1, language, frozenset(flags), settings, text)


def problems(folder: Path, *page: Block) -> list[str]:
    return list(Runner(folder).run(list(page)))


WRONG = """\
error[E0201]: nothing here is called `b`
 --> example.pzl:1:9
  |
1 | let a = b
  |         ^

1 error
"""


def test_a_false_block_is_found(tmp_path: Path) -> None:
    for number, page in enumerate(
        [
            [block("pzl", "let a = b\n")],
            [block("pzl", "let a = b\n", "wrong")],
            [block("pzl", "let a = 1\n", "wrong"), block("text", WRONG)],
            [block("pzl", "let a = 1\n", "hidden")],
            [block("pzl", "let a = 1\n", **{"same-as": "examples/smollm2/chat.pzl"})],
            [block("console", "$ echo one\ntwo\n")],
            [block("console", "$ echo one\n", skip="no time")],
            [block("csv", "a,b\n1\n")],
            [block("", "let a = 1\n")],
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert problems(folder, *page), page


def test_a_true_block_is_none(tmp_path: Path) -> None:
    page = [
        block("pzl", "let b = 1\n", file="base.pzl"),
        block("pzl", "let a = b\n", **{"with": "base.pzl"}),
        block("pzl", "let a = b\n", "wrong"),
        block("text", WRONG),
        block("console", "$ echo one; cat base.pzl\none\n…\n$ true\n"),
        block("console", "$ make demo\n", skip=REASONS[0]),
        block("json", '{"a": 1}\n'),
    ]
    assert problems(tmp_path, *page) == []


def test_a_line_of_dots_stands_for_any_lines() -> None:
    assert fits("a\n…\nd\n", "a\nb\nc\nd\n")
    assert fits("a\n…\nd\n", "a\nd\n")
    assert not fits("a\n…\nd\n", "a\nb\n")
    assert not fits("a\n", "a\nb\n")
    assert list(sessions("$ a\nb\n$ c\n")) == [("a", "b\n"), ("c", "")]
