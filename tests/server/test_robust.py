"""Whatever is in a text, and wherever it is asked about, no feature fails."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsprotocol import types

from puzzledsl.server import navigation, problems
from puzzledsl.server.completion import complete
from puzzledsl.server.document import Document, Project
from puzzledsl.server.navigation import hover
from puzzledsl.server.problems import formatting, semantic_tokens
from tests.cases import ALL, cases
from tests.server.texts import NEMOTRON, PROGRAM, opened


def ask_everything(document: Document, line: int, column: int) -> None:
    here = document.lines.position(line, column)
    problems.problems(document)
    problems.actions(document, types.Range(here, here))
    hover(document, line, column)
    complete(document, line, column)
    navigation.definition(document, line, column)
    navigation.references(document, line, column)
    navigation.outline(document)
    semantic_tokens(document)
    formatting(document)
    with suppress(navigation.Refused):
        navigation.rename(document, line, column, "brand_new")


@pytest.mark.drawn
def test_a_text_cut_off_anywhere(tmp_path: Path) -> None:
    """As it is while it is written, the cursor at its end."""
    for end in range(0, len(PROGRAM), len(PROGRAM) // cases(60)):
        text = PROGRAM[:end]
        document = opened(text, tmp_path, project=Project(folders=[tmp_path]))
        ask_everything(document, text.count("\n") + 1, len(text) - text.rfind("\n"))


def test_every_place_of_a_program() -> None:
    document = Project().document(NEMOTRON)
    assert document is not None
    for number, line in enumerate(document.lines.lines, 1):
        for column in range(1, len(line) + 2, 5 if ALL else 15):
            hover(document, number, column)
            complete(document, number, column)
            navigation.definition(document, number, column)


@settings(max_examples=cases(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from('abc ={}()[]|.,:"#\n<>&-1sGiB😀\r\tuse letfor'), max_size=80), st.data())
def test_any_text(tmp_path: Path, text: str, data: st.DataObject) -> None:
    document = opened(text, tmp_path, project=Project(folders=[tmp_path]))
    line = data.draw(st.integers(1, len(document.lines.lines)))
    column = data.draw(st.integers(1, len(document.lines.lines[line - 1]) + 1))
    ask_everything(document, line, column)


ODD = ["", "\ufefflet a = 1\r\nlet b = a\r\n", "(" * 3000, "let a = a\n", 'use "program.pzl"\n', "\x00\x00"]


@pytest.mark.parametrize("text", [*ODD, "{" * 500, "x" * (1 << 21)], ids=range(8))
def test_odd_texts(text: str, tmp_path: Path) -> None:
    document = opened(text, tmp_path)
    ask_everything(document, 1, 1)
    ask_everything(document, len(document.lines.lines), 1)
