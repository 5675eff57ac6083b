"""The text of a program, its names, the files it uses, values and parameters."""

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.checker.check import check
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.parse import parse
from tests.language.rules import codes, outcome, program
from tests.syntax.unparse import unparse


@pytest.mark.states("text.utf8")
def test_utf8(tmp_path: Path) -> None:
    path = tmp_path / "program.pzl"
    path.write_bytes(b"\xef\xbb\xbf" + '## Größe\nlet a = "ü"\n'.encode())
    assert check(path, {}).diagnostics == ()
    path.write_bytes(b"let a = 1\n# \xff\n")
    assert len(check(path, {}).diagnostics) == 1


@pytest.mark.states("text.kinds")
@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_kind_is_a_did_you_mean(tmp_path: Path, kind: str) -> None:
    found = outcome(tmp_path, f"{kind}e x of w {{ }}").diagnostics
    assert any(kind in d.help for d in found), [d.help for d in found]


@pytest.mark.states("text.reserved")
@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_a_reserved_word_is_no_name(tmp_path: Path, word: str) -> None:
    assert outcome(tmp_path, f"let {word} = 1").program is None


# ---------------------------------------------------------------- files


def files(folder: Path, **texts: str) -> str:
    """Write files beside the program; the codes of `main`, behind the prelude."""
    for name, text in texts.items():
        path = folder / (name.replace("__", "/") + ".pzl")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return codes(folder, texts["main"])


@pytest.mark.states("use.some", "use.all", "use.as")
def test_what_use_imports(tmp_path: Path) -> None:
    f = 'use "g.pzl" (c)\nlet a = 1\nlet b = c\nfn twice(x) = 2 * x\n'
    g = "let c = 3\n"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a)\nassert a == 1') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a)\nassert b == 3') == "E0201"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a, nope)') == "E0213"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl"\nassert a + b == 4') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl"\nassert c == 3') == "E0201"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" as f\nassert f.twice(f.a) + f.b == 5') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" as f\nassert a == 1') == "E0201"


@pytest.mark.states("use.relative")
def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    inner = 'use "g.pzl" (c)\nuse "../g.pzl" as outer\nassert c == 1 and outer.c == 2\n'
    assert files(tmp_path, sub__f=inner, sub__g="let c = 1\n", g="let c = 2\n", main='use "sub/f.pzl"') == ""
    assert files(tmp_path, main='use "nowhere.pzl"') == "E0211"


@pytest.mark.states("use.lowered")
def test_what_is_kept_of_a_used_file(tmp_path: Path) -> None:
    used = "hardware one = measured(device: cpu)\nhardware two = measured(device: cpu)\n"
    main = 'use "f.pzl"\nscenario s on two = batch(1, 8 -> 8)'
    assert files(tmp_path, f=used, main=main) == ""
    assert {*program(tmp_path, main).hardware} == {"h", "two"}
    assert files(tmp_path, f=used + "let bad = nothing\n", main='use "f.pzl" (one)') == "E0201"


# ---------------------------------------------------------------- values


@pytest.mark.states("param.set", "param.recorded")
def test_setting_parameters(tmp_path: Path) -> None:
    text = "param a: Bytes = 80GiB\nparam m: fast | small = fast"
    assert program(tmp_path, text).params == {"a": "80GiB", "m": "fast"}
    assert program(tmp_path, text, a="2 * 40GiB", m="small").params == {"a": "2 * 40GiB", "m": "small"}
    assert codes(tmp_path, text, a="80") == "E0303"
    assert codes(tmp_path, text, a="80GiB }") == "E0217"
    assert codes(tmp_path, text, b="1") == "E0216"
    assert codes(tmp_path, "param a: Bytes") == "E0218"
    assert codes(tmp_path, "param a: Bytes", a="1GiB") == ""
    assert codes(tmp_path, text, m="slow") == "E0305"


@pytest.mark.states("values.precedence")
@pytest.mark.parametrize(
    ("bare", "bracketed"),
    [
        ("if a then b else c | d", "if a then b else (c | d)"),
        ("if a then b else if c then d else e", "if a then b else (if c then d else e)"),
        ("a is noop implies b is not noop", "(a is noop) implies (b is not noop)"),
        ("f(1,)", "f(1)"),
        ("a | b implies c", "a | (b implies c)"),
        ("| a | b", "a | b"),
        ("a or b implies c or d", "(a or b) implies (c or d)"),
        ("a and b or c and d", "(a and b) or (c and d)"),
        ("not a and not b", "(not a) and (not b)"),
        ("not a == b", "not (a == b)"),
        ("not a is noop", "not (a is noop)"),
        ("a..b == c", "(a..b) == c"),
        ("a in b..c", "a in (b..c)"),
        ("a + b..c - d", "(a + b)..(c - d)"),
        ("a + b -> c + d", "(a + b) -> (c + d)"),
        ("a - b - c", "(a - b) - c"),
        ("a + b * c mod d", "a + ((b * c) mod d)"),
        ("a * b / c", "(a * b) / c"),
        ("-a * b", "(-a) * b"),
        ("-a.b", "-(a.b)"),
        ("a.b(c).d[e]", "((a.b)(c)).d[e]"),
        ("a < b <= c == d", "a < b <= c == d"),
    ],
)
def test_precedence(bare: str, bracketed: str) -> None:
    sink = Sink()
    one, other = (unparse(parse(f"let x = {text}\n", "t.pzl", sink)) for text in (bare, bracketed))
    assert one == other and not sink.items


@pytest.mark.states("values.precedence")
@pytest.mark.parametrize("text", ["a implies b implies c", "a..b..c", "a -> b -> c"])
def test_what_does_not_chain(text: str) -> None:
    sink = Sink()
    parse(f"let x = {text}\n", "t.pzl", sink)
    assert sink.items
