"""Objects in a notebook: HTML that is whole, styles that stay inside it, and the magic `%%pzl`."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

import puzzledsl as pzl
from tests.api.programs import PROGRAM

EMPTY = {"img", "br", "meta"}


class Outline(HTMLParser):
    """The open elements of a text, and how often each class occurs."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in EMPTY:
            self.open.append(tag)
        self.classes += [(value or "").split(" ")[0] for name, value in attrs if name == "class"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if "style" in self.open else data


def outline(shown: Any) -> Outline:
    parsed = Outline()
    parsed.feed(shown._repr_html_())
    assert parsed.open == []
    return parsed


SHOWN: dict[str, tuple[Callable[[pzl.Program], Any], str]] = {
    "program": (lambda p: p, "minimize kl"),
    "answer": (lambda p: p.solve("best"), "optimal, objective 0.8"),
    "no answer": (lambda p: p.solve("none"), "params >= 95% * llama.params"),
    "frontier": (lambda p: p.frontier("curve"), "4 of 4 points proven"),
    "regrets": (lambda p: p.why("best"), "costs next to nothing"),
    "regrets of a layer": (lambda p: p.why("best", layer=2), "(chosen)"),
    "child": (lambda p: p.metrics("best", [("parent", "parent")] * 6), "does not hold"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_it_shows_what_it_is(program: pzl.Program, name: str) -> None:
    make, said = SHOWN[name]
    shown = make(program)
    found = outline(shown)
    assert said in found.text and found.classes[0] == "pzl"
    assert repr(shown).startswith("<") and "\n" not in repr(shown)


def test_tables_show_themselves_as_data_frames(program: pzl.Program) -> None:
    for shown in (program.space("wide"), program.costs("wide"), program.run(until="solve")):
        assert repr(shown).startswith("<") and "<table" in shown.to_frame("pandas")._repr_html_()


def test_the_heat_map_has_a_cell_for_each_alternative_of_each_layer(program: pzl.Program) -> None:
    regrets = program.why("best")
    alternatives = sum(len(s.regrets) for s in regrets.sub_blocks)
    assert outline(regrets).classes.count("cell") == alternatives + 5  # and the legend's


def test_styles_stay_inside(program: pzl.Program) -> None:
    html = program.solve("best")._repr_html_()
    style = html[html.index("<style>") + 7 : html.index("</style>")].strip()
    assert style.startswith(".pzl {") and style.endswith("}")
    depth = 0
    for number, character in enumerate(style):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth > 0 or number == len(style) - 1 or number < len(".pzl {"), style[number - 40 : number]


def test_names_are_escaped(program: pzl.Program) -> None:
    text = PROGRAM.replace('because "half the fleet"', 'because "<script>"')
    answer = pzl.parse(text, folder=program.file.parent).solve("none")
    assert "<script>" not in answer._repr_html_()


class Shell:
    """The part of IPython's shell that the extension uses."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {}
        self.magics: dict[tuple[str, str], Callable[[str, str], Any]] = {}

    def register_magic_function(self, func: Any, magic_kind: str, magic_name: str) -> None:
        self.magics[magic_kind, magic_name] = func


@pytest.fixture
def magic(program: pzl.Program, monkeypatch: pytest.MonkeyPatch) -> tuple[Shell, Callable[[str, str], Any]]:
    """A shell with the extension, in the program's directory, and its magic."""
    monkeypatch.chdir(program.file.parent)
    shell = Shell()
    pzl.load_ipython_extension(shell)
    return shell, shell.magics["cell", "pzl"]


def test_a_cell_is_a_program(magic: tuple[Shell, Callable[[str, str], Any]]) -> None:
    shell, cell = magic
    shown = cell("", PROGRAM)
    assert shown is shell.user_ns["program"] and shown.solve("best").objective == pytest.approx(0.8)
    fast = cell("fast speedup=1.4x", PROGRAM)
    assert fast is shell.user_ns["fast"] and fast.solve("best").objective > shown.solve("best").objective


def test_a_broken_cell_shows_its_diagnostics(magic: tuple[Shell, Callable[[str, str], Any]]) -> None:
    shell, cell = magic
    with pytest.raises(pzl.DiagnosticError) as caught:
        cell("", "space w of q {}")
    assert "1 | space w of q {}" in caught.value._render_traceback_()[0] and shell.user_ns == {}


@pytest.mark.parametrize(("line", "said"), [("a b", "not a and b"), ("1x", "`1x` is neither")])
def test_a_line_that_makes_no_sense_is_refused(
    line: str, said: str, magic: tuple[Shell, Callable[[str, str], Any]]
) -> None:
    with pytest.raises(ValueError, match=said):
        magic[1](line, PROGRAM)
