"""Places are counted as the editor counts: UTF-16 units from 0, or what it agreed to."""

from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from puzzledsl.server.document import Encoding, Lines

ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
texts = st.text(st.sampled_from("ab é→𝔘😀\n"), max_size=40)


@given(texts, st.sampled_from(ENCODINGS), st.data())
def test_there_and_back(text: str, encoding: Encoding, data: st.DataObject) -> None:
    lines = Lines(text, encoding)
    line = data.draw(st.integers(1, len(lines.lines)))
    column = data.draw(st.integers(1, len(lines.lines[line - 1]) + 1))
    position = lines.position(line, column)
    codec, size = CODECS[encoding]
    assert position.line == line - 1
    assert position.character == len(lines.lines[line - 1][: column - 1].encode(codec)) // size
    assert lines.place(position) == (line, column)


@given(texts, st.sampled_from(ENCODINGS), st.integers(0, 60), st.integers(0, 60))
def test_any_position_is_a_place_of_the_text(text: str, encoding: Encoding, line: int, at: int) -> None:
    lines = Lines(text, encoding)
    row, column = lines.place(types.Position(line, at))
    assert 1 <= row <= len(lines.lines)
    assert 1 <= column <= len(lines.lines[row - 1]) + 1


def test_a_place_below_the_text_is_its_end() -> None:
    """A file may have become shorter than it was when it was checked."""
    assert Lines("a\n😀x", "utf-16").position(7, 2) == types.Position(1, 3)
