"""The text of a program, its names and the files it uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.checker.check import check
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS
from tests.language.rules import PRELUDE, codes, holds, outcome, program, refused, search


@pytest.mark.parametrize(
    "text",
    [
        *holds("text.comments", "# a comment { ( [", "let a = 1 # and more\n### three are a comment, too"),
        *holds(
            "text.newline",
            "let a = (1\n+ 2)\nlet b = [1,\n2\n]",
            "let a = 1 +\n 2\nassert a == 3\nlet b = if a == 3\n  then 1\n  else 2",
            search("require layers[0].ffn is noop\n  implies layers[1].ffn is noop\n  because \"it is\""),
            "space v of p\n{ ffn = parent\n    | noop\n}\nassert 1 == 1\n  and 2 == 2\n  or 3 == 3",
            "let n = count(x > 1 for x in 1..3\n  where x > 2)",
        ),
        *holds("text.declaration", "  space v of p {\nffn = parent | noop\n    }\n search s of v { maximize params }"),
        *holds("text.comma", "space v of p { ffn = parent | noop, layers[0] = parent, }"),
        *holds("text.names", "let _a9 = 1\nlet A = 2\nlet a = 3\nassert A + _a9 == a"),
        *holds("names.order", "assert later == 1\nlet later = 1"),
        *holds("names.local", "let i = 7\n" + search("for i in 0..3 { require layers[i].ffn is not noop }")),
        *holds("names.local", "let n = 7\nfn f(n) = n\nassert f(1) == 1", "let a = 1\nspace v of p { let a = parent | noop, ffn = a }"),
        *holds("names.own", "let sum = 3\nlet fp8 = 4\nassert sum + fp8 == 7"),
        *holds("names.words-win", "search cpsat of w { minimize kl, solver = cpsat }"),
        *holds("use.std", *(f'use "std/{name}.pzl" as n' for name in ("hardware", "parents", "spaces"))),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("text.comma", ("let a = 1, let b = 2", "E0001")),
        *refused(
            "text.declaration", ("space v of p { ffn = parent | noop\nspace u of v { ffn = parent }", "E0002")
        ),
        *refused("text.names", ("let 9a = 1", "E0001")),
        *refused("text.kinds", ("serch s of w { minimize kl }", "E0101")),
        *refused("names.once", ("let a = 1\nlet a = 2", "E0203"), ("let kl = 1", "E0203")),
        *refused("names.unknown", ("let a = nothing\nlet b = nothing + nothing", "E0201")),
        *refused("use.std", ('use "std/nothing.pzl"', "E0211")),
    ],
)
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


@pytest.mark.states("text.utf8")
def test_utf8(tmp_path: Path) -> None:
    path = tmp_path / "program.pzl"
    path.write_bytes(b"\xef\xbb\xbf" + '## Größe\nlet a = "ü"\n'.encode())
    assert check(path, {}).diagnostics == ()
    path.write_bytes(b"let a = 1\n# \xff\n")
    assert len(check(path, {}).diagnostics) == 1


@pytest.mark.states("text.doc")
def test_doc_comments_belong_to_the_next_declaration(tmp_path: Path) -> None:
    found = program(tmp_path, "# no doc\n\n## One line,\n## another.\nspace v of p { ffn = parent | noop }\n")
    assert (found.spaces["v"].doc, found.spaces["w"].doc) == ("One line,\nanother.", "")


@pytest.mark.states("text.kinds")
@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_kind_is_a_did_you_mean(tmp_path: Path, kind: str) -> None:
    found = outcome(tmp_path, f"{kind}e x of w {{ }}").diagnostics
    assert any(kind in d.help for d in found), [d.help for d in found]


@pytest.mark.states("text.reserved")
@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_a_reserved_word_is_no_name(tmp_path: Path, word: str) -> None:
    assert outcome(tmp_path, f"let {word} = 1").program is None


@pytest.mark.states("names.unknown")
def test_an_unknown_name_has_a_did_you_mean(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, "let a = chat.memry / kll\nlet b = chta.latency").diagnostics[:1]
    assert "did you mean" in found.help


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
    f = 'use "g.pzl" (c)\nlet a = 1\nlet b = c\n'
    g = "let c = 3\n"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a)\nassert a == 1') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a)\nassert b == 3') == "E0201"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" (a, nope)') == "E0213"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl"\nassert a + b == 4') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl"\nassert c == 3') == "E0201"
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" as f\nassert f.a + f.b == 4') == ""
    assert files(tmp_path, f=f, g=g, main='use "f.pzl" as f\nassert a == 1') == "E0201"


@pytest.mark.states("use.relative")
def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    inner = 'use "g.pzl" (c)\nuse "../g.pzl" as outer\nassert c == 1 and outer.c == 2\n'
    assert files(tmp_path, sub__f=inner, sub__g="let c = 1\n", g="let c = 2\n", main='use "sub/f.pzl"') == ""
    assert files(tmp_path, main='use "nowhere.pzl"') == "E0211"


@pytest.mark.states("use.cycle")
def test_circles_are_named(tmp_path: Path) -> None:
    (tmp_path / "f.pzl").write_text('use "g.pzl"\n')
    (tmp_path / "g.pzl").write_text('use "f.pzl"\n')
    (found,) = outcome(tmp_path, 'use "f.pzl"').diagnostics
    assert found.code == "E0212"
    assert "`f.pzl` uses `g.pzl` uses `f.pzl`" in found.message


@pytest.mark.states("use.lowered")
def test_what_is_kept_of_a_used_file(tmp_path: Path) -> None:
    used = "hardware one = measured(device: cpu)\nhardware two = measured(device: cpu)\n"
    assert files(tmp_path, f=used, main='use "f.pzl"\nscenario s on two = batch(1, 8 -> 8)') == ""
    assert "two" in program(tmp_path, 'use "f.pzl"\nscenario s on two = batch(1, 8 -> 8)').hardware
    assert "one" not in program(tmp_path, 'use "f.pzl"\nscenario s on two = batch(1, 8 -> 8)').hardware
    assert files(tmp_path, f=used + "let bad = nothing\n", main='use "f.pzl" (one)') == "E0201"


@pytest.mark.states("check.imports")
def test_a_mistake_in_a_used_file_is_shown_there(tmp_path: Path) -> None:
    (tmp_path / "f.pzl").write_text("\n\nlet bad = nothing\n")
    (found,) = outcome(tmp_path, 'use "f.pzl"').diagnostics
    assert found.span is not None
    assert (Path(found.span.file).name, found.span.line) == ("f.pzl", 3)


def test_the_prelude_is_that_of_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    for line in PRELUDE.splitlines()[2:]:
        assert line in page
