from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.format import LIMIT, format_source
from puzzledsl.syntax.parse import parse
from puzzledsl.syntax.tokens import Token, lex
from tests.cases import cases
from tests.generated import program
from tests.strategies import modules
from tests.syntax.unparse import unparse

ROOT = Path(__file__).parents[2]
NEMOTRON = (ROOT / "examples" / "nemotron51b.pzl").read_text("utf-8")

UGLY = """

# head
search  s   of w{
minimize kl+lm


  require a   <= -4 - -b   because "x"
  require abcd.de <= sum( 3 ) because "y"   # why
      # own line
  ffn =mlp(width:100%|87%,
 round: 256 ,
)
  | noop
  | f(
  1,
  g(2,[
   3 ]))

}
let x=if a   then b
 else not(c) # com
frontier y   of x = sweep(1x  ..  3x)
space z of w {
layers  [ ..1,-1, i+1 .. where x]=3
}
"""

TIDY = """\
# head
search s of w {
  minimize kl + lm

  require a       <= -4 - -b  because "x"
  require abcd.de <= sum(3)   because "y"        # why
  # own line
  ffn = mlp(width: 100% | 87%,
    round: 256,
  )
      | noop
      | f(
        1,
        g(2, [
          3]))
}
let x = if a then b
    else not (c)                                 # com
frontier y of x = sweep(1x..3x)
space z of w {
  layers[..1, -1, i+1.. where x] = 3
}
"""
ALIGNED = """\
hardware a  = f(1)
hardware bc = g(2)
scenario one   on a  = batch(1, 2 -> 3)
scenario three on bc = batch(auto, 2 -> 3)
search greedy  of best { solver = cpsat }
frontier curve of best = sweep(params, 1x..2x)
bld pieces of wide { tokens = 1B }               # a lone comment
space narrow of thin = used_by(best)
search best of wide {
  minimize kl                                    # neighbours
  require chat.memory     <= 3GiB  because "a"   # of each other
  require chat.throughput >= 2x    because "b"
  require sum(attention.kv_heads) <= 400
  require params < 3B
  layers[0] = a_long_line_of_code(that: goes, beyond: the_column)  # so
  layers[1] = parent                                               # both
  layers[2] = a_long_line_of_code(that: goes, beyond: column)
  layers[3] = a_long_line_of_code(that: goes, beyond: the_column)        # alone
}
"""
LAYOUTS = Path(__file__).parent / "layouts"
LONG, BROKEN = ((LAYOUTS / name).read_text("utf-8") for name in ("long.pzl", "long.formatted"))
PROGRAMS = sorted(path for folder in ("examples", "spaces") for path in (ROOT / folder).rglob("*.pzl"))


def test_an_ugly_program_becomes_a_tidy_one() -> None:
    assert format_source(UGLY) == TIDY


def test_the_two_words_of_an_operator_stand_one_blank_apart() -> None:
    text = "search s of w {\n  require a  same \t as(b)\n  require layers[i]\nsame   as layers[i - 1]\n}\n"
    tidy = "search s of w {\n  require a same as (b)\n  require layers[i]\n      same as layers[i-1]\n}\n"
    assert format_source(text) == tidy == format_source(tidy)


def test_neighbours_are_aligned_as_a_person_would() -> None:
    assert format_source(ALIGNED) == ALIGNED


def test_long_lines_are_broken_as_a_person_would() -> None:
    assert format_source(LONG) == BROKEN == format_source(BROKEN)
    assert max(len(line.split("  #")[0]) for line in BROKEN.split("\n")) <= LIMIT
    assert parse(BROKEN, "a.pzl", Sink()) == parse(LONG, "a.pzl", Sink())


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
def test_shipped_programs_are_formatted(path: Path) -> None:
    text = path.read_text("utf-8")
    assert format_source(text) == text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_shipped_programs_come_out_the_same_however_they_are_spaced(path: Path) -> None:
    text = path.read_text("utf-8")
    for seed in range(3):
        assert format_source(respaced(text, random.Random(seed))) == text


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
        spaced = _respaced_line(tokens, chance)
        lines.append(spaced if _texts(spaced) == _texts(line) else line)
        if not tokens:
            lines += [" " * chance.randrange(3)] * chance.randrange(3)
    return chance.choice(["\n", "\r\n"]).join(lines)


def _respaced_line(tokens: list[Token], chance: random.Random) -> str:
    parts = [" " * chance.randrange(9) + token for token in tokens]
    return "".join(parts) + " " * chance.randrange(3)


def _texts(line: str) -> list[str]:
    return [t.rstrip() for t in lex(line)]


@pytest.mark.parametrize(
    "text", [UGLY, NEMOTRON, "", "\n\n", "# a\n\n\n# b", "let x = 1 # c", "a = = (\n{\n)"]
)
def test_formatting_twice_is_formatting_once(text: str) -> None:
    assert format_source(format_source(text)) == format_source(text)


@given(modules, st.randoms(use_true_random=False))
@settings(max_examples=cases(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_formatting_keeps_the_meaning(module: tree.Module, chance: object) -> None:
    text = unparse(module)
    once = format_source(text)
    assert parse(once, "a.pzl", Sink()) == module
    assert format_source(once) == once


@given(
    st.lists(
        st.tuples(st.integers(0, NEMOTRON.count("\n")), st.sampled_from(["# c", "## d", " ", ""])), max_size=8
    )
)
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
