import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.format import LIMIT, format_source
from puzzledsl.syntax.parse import parse
from puzzledsl.syntax.tokens import lex
from tests.cases import cases
from tests.generated import program
from tests.strategies import modules
from tests.syntax.unparse import unparse

ROOT = Path(__file__).parents[2]
NEMOTRON = (ROOT / "examples" / "nemotron51b.pzl").read_text("utf-8")

LAYOUTS = sorted((Path(__file__).parent / "layouts").glob("*.pzl"))
PROGRAMS = sorted(path for folder in ("examples", "spaces") for path in (ROOT / folder).rglob("*.pzl"))


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_a_program_is_formatted_as_a_person_would(path: Path) -> None:
    text, formatted = (path.with_suffix(end).read_text("utf-8") for end in (".pzl", ".formatted"))
    assert format_source(text) == formatted == format_source(formatted)
    assert parse(formatted, "a.pzl", Sink()) == parse(text, "a.pzl", Sink())
    if path.stem == "long":
        assert max(len(line.split("  #")[0]) for line in formatted.split("\n")) <= LIMIT


@pytest.mark.parametrize(
    "line",
    [
        f'assert a == b because "{"long " * 40}"',
        f"let a = {'x' * 130}",
        f"# {'long ' * 40}",
        f"let a = {'(' * 130}1{')' * 130}",
    ],
)
def test_what_cannot_be_broken_is_kept(line: str) -> None:
    once = format_source(line)
    assert "".join(once.split()) == "".join(line.split())
    assert format_source(once) == once


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_shipped_programs_are_formatted_and_come_out_the_same_however_they_are_spaced(path: Path) -> None:
    text = path.read_text("utf-8")
    assert format_source(text) == text
    assert format_source(respaced(text, random.Random(path.name))) == text


@given(st.integers(0, 10**6))
@settings(max_examples=cases(40), deadline=None)
def test_formatting_keeps_programs_and_forgets_their_spacing(seed: int) -> None:
    chance = random.Random(seed)
    text = program(chance)
    once = format_source(text)
    assert parse(once, "a.pzl", Sink()) == parse(text, "a.pzl", Sink())
    assert comments(once) == comments(text)
    assert format_source(once) == once
    assert format_source(respaced(text, chance)) == once


def comments(text: str) -> list[str]:
    return [t.rstrip() for t in lex(text) if t.type in ("COMMENT", "DOC")]


def respaced(text: str, chance: random.Random) -> str:
    """The same words and comments on the same lines, with other blanks between them and more blank lines between those."""
    lines: list[str] = []
    for line in text.split("\n"):
        tokens = [t for t in lex(line) if t.type != "_NL"]
        parts = [" " * chance.randrange(9) + token for token in tokens]
        spaced = "".join(parts) + " " * chance.randrange(3)
        lines.append(spaced if [t.rstrip() for t in lex(spaced)] == [t.rstrip() for t in lex(line)] else line)
        if not tokens:
            lines += [" " * chance.randrange(3)] * chance.randrange(3)
    return chance.choice(["\n", "\r\n"]).join(lines)


@pytest.mark.parametrize("text", ["", "\n\n", "# a\n\n\n# b", "let x = 1 # c", "a = = (\n{\n)"])
def test_formatting_twice_is_formatting_once(text: str) -> None:
    assert format_source(format_source(text)) == format_source(text)


@given(modules)
@settings(max_examples=cases(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_formatting_keeps_the_meaning(module: tree.Module) -> None:
    text = unparse(module)
    once = format_source(text)
    for same in (text, once):
        assert parse(same, "a.pzl", sink := Sink()) == module and not sink.items
    assert format_source(once) == once


PLACES = st.tuples(st.integers(0, NEMOTRON.count("\n")), st.sampled_from(["# c", "## d", " "]))


@given(st.lists(PLACES, max_size=8))
@settings(max_examples=cases(40), deadline=None)
def test_formatting_keeps_every_comment(places: list[tuple[int, str]]) -> None:
    lines = NEMOTRON.split("\n")
    for at, comment in places:
        lines[at] += comment
    text = "\n".join(lines)
    formatted = format_source(text)
    assert "".join(formatted.split()) == "".join(text.split())
    assert format_source(formatted) == formatted


@pytest.mark.parametrize("text", ["let a = $\n", 'let  a = "b\n', "let a  = b && c\n"])
def test_a_text_with_strange_words_is_left_alone(text: str) -> None:
    assert format_source(text) == text
