from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.diagnostics import Sink
from puzzledsl.lang import tree
from puzzledsl.lang.format import format_source
from puzzledsl.lang.parse import parse
from puzzledsl.lang.unparse import unparse
from tests.strategies import modules

NEMOTRON = (Path(__file__).parents[2] / "examples" / "nemotron51b.pzl").read_text("utf-8")

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
  require abcd.de <= sum(3)   because "y"   # why
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
    else not (c)  # com
frontier y of x = sweep(1x..3x)
space z    of w {
  layers[..1, -1, i+1.. where x] = 3
}
"""


def test_an_ugly_program_becomes_a_tidy_one() -> None:
    assert format_source(UGLY) == TIDY


def test_the_shipped_example_is_tidy_but_for_one_comment() -> None:
    changed = [
        (a, b)
        for a, b in zip(NEMOTRON.splitlines(), format_source(NEMOTRON).splitlines(), strict=False)
        if a != b
    ]
    assert all(a.split() == b.split() for a, b in changed)
    assert len(changed) <= 1


@pytest.mark.parametrize(
    "text", [UGLY, NEMOTRON, "", "\n\n", "# a\n\n\n# b", "let x = 1 # c", "a = = (\n{\n)"]
)
def test_formatting_twice_is_formatting_once(text: str) -> None:
    assert format_source(format_source(text)) == format_source(text)


@given(modules, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
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
@settings(max_examples=40, deadline=None)
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
