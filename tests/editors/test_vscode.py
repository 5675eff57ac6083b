"""The VS Code extension: its grammar colours what the parser reads, its snippets are programs, its files fit together."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.checker.check import check
from puzzledsl.server.document import units
from puzzledsl.syntax.highlight import CLASSES, classified
from tests.editors.conftest import VSCODE, Node
from tests.server.texts import ROOT

TEXTMATE = runpy.run_path(str(ROOT / "editors" / "textmate.py"), run_name="textmate")
GRAMMAR = VSCODE / "syntaxes" / "pzl.tmLanguage.json"
SNIPPETS = json.loads((VSCODE / "snippets" / "pzl.json").read_text("utf-8"))

EVERY_CLASS = """\
## doc
# comment ## still
### plain
use "a\\"b.pzl" as lib   ## behind code: a comment
use "b.pzl" (one, two,)
param x: Ratio = half(of: y)
param bare : Count
fn half(x) = x / 2
let a_1=1_000.5e-3GiB+200 tok/s*78%-2.17x mod 3
space w of lib . p{attention|=noop, ffn-=x, a&=mlp(width:>=25%), b = [1..2, ..n, m.. , x->y]}
search s on w { require not a is not b and c != d or e implies f == g because "why" }
search of
scenario for
let s = é“typographic”; a && b || !c 'old' x≤y // comment of another language
let open = "never closed \\" # not a comment
layers[.. where index in 1..3].attention = if true then 1.5 else .5
"""


def sources() -> dict[str, str]:
    """Every program at hand, right and wrong."""
    folders = "spaces", "examples", "tests/syntax", "tests/checker", "tests/cli"
    paths = [p for folder in folders for p in (ROOT / folder).glob("**/*.pzl") if "build" not in p.parts]
    found = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8", "replace") for p in paths}
    return {"every class": EVERY_CLASS, **{name: text.replace("\r", "") for name, text in found.items()}}


def scopes_of(node: Node, texts: list[str]) -> list[list[tuple[int, int, int, list[str]]]]:
    """The TextMate tokens of some texts: line, start, end, scopes."""
    asked = json.dumps({"grammar": str(GRAMMAR), "texts": texts})
    found: list[list[tuple[int, int, int, list[str]]]] = json.loads(node("test/tokenize.js", stdin=asked))
    return found


def test_the_grammar_is_the_one_the_parser_gives() -> None:
    """`python editors/textmate.py` writes it anew."""
    assert GRAMMAR.read_text("utf-8") == TEXTMATE["grammar"]()


def test_every_class_has_a_scope_and_is_tried() -> None:
    assert set(TEXTMATE["SCOPES"]) == set(CLASSES)
    assert {its_class for _, its_class in classified(EVERY_CLASS)} == set(CLASSES)


def test_every_token_has_the_scope_of_its_class(node: Node) -> None:
    texts = sources()
    for (name, text), found in zip(texts.items(), scopes_of(node, list(texts.values())), strict=True):
        at: dict[int, list[tuple[int, int, list[str]]]] = {}
        for line, start, end, scopes in found:
            at.setdefault(line, []).append((start, end, scopes))
        lines = text.split("\n")
        for token, its_class in classified(text):
            row = (token.line or 1) - 1
            start = units(lines[row][: (token.column or 1) - 1], "utf-16")
            end = start + units(str(token), "utf-16")
            parts = [s for first, last, s in at[row] if first < end and last > start]
            wanted = TEXTMATE["SCOPES"][its_class]
            assert parts, (name, token)
            assert all(wanted in scopes for scopes in parts), (name, token.line, str(token), its_class, parts)


def test_blanks_alone_are_without_a_scope_and_escapes_have_one(node: Node) -> None:
    (found, escaped) = scopes_of(node, [EVERY_CLASS, 'use "a\\"b"'])
    lines = EVERY_CLASS.split("\n")
    for line, start, end, scopes in found:
        text = lines[line].encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")
        assert (len(scopes) == 1) == (not text.strip()), (line, text, scopes)
    assert [s for _, start, end, s in escaped if (start, end) == (6, 8)] == [
        ["source.pzl", "string.quoted.double.pzl", "constant.character.escape.pzl"]
    ]


def test_the_extension_starts_and_stops_the_server(node: Node) -> None:
    assert "# fail 0" in node("--test", "--test-reporter=tap", "test/extension.test.js")


BASE = """\
use "std/hardware.pzl" (h100_sxm)
use "std/parents.pzl" (llama3_1_8b)
parent p = shape(family: llama, layers: 8, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { attention = parent | noop, ffn = parent | noop, layers[0] = parent }
hardware h = h100_sxm(gpus: 1)
scenario chat on h = batch(1, 128 -> 64)
data d = text("*.txt")
bld b of w { tokens = 1k }
score kl of b = replace_one(kl_divergence)
search q of w { minimize kl }
uptrain u of q { tokens = 1k }
"""


def expanded(body: list[str]) -> str:
    """A snippet as it stands before anything is typed into it."""
    text = "\n".join(body)
    text = re.sub(r"\$\{\d+\|([^,|]*)[^}]*\|\}", r"\1", text)
    return re.sub(r"\$\{\d+:([^}]*)\}|\$\d+", r"\1", text)


@pytest.mark.parametrize("name", SNIPPETS)
def test_every_snippet_is_right_as_it_stands(name: str, tmp_path: Path) -> None:
    snippet: dict[str, Any] = SNIPPETS[name]
    text = expanded(snippet["body"])
    assert "$" not in text
    path = tmp_path / "program.pzl"
    base = BASE
    if name.startswith("Use"):
        base = BASE.split("\n", 1)[1].replace("h100_sxm(gpus: 1)", "measured(device: cpu, memory: 1GiB)")
    path.write_text(base + text + "\n", "utf-8")
    found = check(path, {}).diagnostics
    assert [str(d.message) for d in found if d.severity == "error"] == []  # it may be unused, so far
