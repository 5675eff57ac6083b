from collections.abc import Mapping
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic, Sink
from puzzledsl.syntax.parse import MAX_BYTES, parse, read_source
from puzzledsl.syntax.recover import MAX_MISTAKES
from tests.goldens import assert_golden

FOLDER = Path(__file__).parent / "errors"
PROGRAMS = sorted(FOLDER.glob("*.pzl"))


def check(path: Path) -> tuple[list[Diagnostic], Mapping[str, str]]:
    sink = Sink()
    if (text := read_source(path, sink)) is None:
        return sink.items, {}
    parse(text, str(path), sink)
    return sink.items, {str(path): text}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_the_words_of_a_mistake(program: Path) -> None:
    assert_golden(program, check)


@pytest.mark.parametrize(
    ("name", "why"), [("none.pzl", "no such file"), ("", "is a directory"), ("a\0b", "null byte")]
)
def test_a_path_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    sink = Sink()
    assert read_source(f"{tmp_path}/{name}", sink) is None
    assert [(d.code, why in d.message) for d in sink] == [("E0016", True)]


def test_a_file_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.pzl"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    sink = Sink()
    assert read_source(path, sink) is None
    assert parse("x" * (MAX_BYTES + 1), "large.pzl", sink).broken
    assert {d.code for d in sink} == {"E0014"}


@pytest.mark.parametrize("line", ["let = 3", "$ ", "let a = )", "x"])
def test_too_many_mistakes(line: str) -> None:
    sink = Sink()
    parse(f"{line}\n" * 500, "garbage.pzl", sink)
    assert len(sink.items) == MAX_MISTAKES + 1 and sink.items[-1].code == "E0013"
