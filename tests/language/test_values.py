"""Values, operators, functions, `let`, `fn`, `assert` and `param`."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax.parse import parse
from tests.language.rules import codes, holds, outcome, program, refused, search
from tests.syntax.unparse import unparse


@pytest.mark.parametrize(
    "text",
    [
        *holds("values.exact", "assert 0.1 + 0.2 == 0.3", "assert 1 / 3 * 3 == 1", "assert 1e-4 * 10_000 == 1"),
        *holds("values.literals", "assert 78_000 == 78k and 0.5 == 1 / 2 and 2.50e3 == 2500 and 1E+2 == 100"),
        *holds("values.units", "assert 200 tok/s == 200tok/s and 1024KiB == 1MiB and 90s == 1.5min and 1h == 3600s"),
        *holds("values.units", "assert 1kB == 1000 / 1024 * 1KiB and 2Ki == 2048 and 1B == 1000M and 1T == 1000B"),
        *holds("values.percent", "assert 25% == 0.25 and 50% * 8 == 4 and 20% + 5% == 25%"),
        *holds("values.percent", "space v of p { ffn = mlp(width: 50%) }"),
        *holds("values.times", search("require chat.memory <= 0.6x\n require kl <= 2x\n require sum(ffn.width) <= 0.5x")),
        *holds("values.products", "assert 1GiB / 2MiB == 512 and 2 * 1s == 2000ms and 100 tok/s * 3s == 300tok"),
        *holds("values.products", "assert 1TFLOP/s * 2s == 2TFLOP and 10GB / 5s == 2GB/s"),
        *holds("values.division", "assert 7 / 2 == 3.5 and 7 mod 3 == 1 and -7 mod 3 == 2 and 7 mod -3 == -2"),
        *holds("values.division", "assert 5GiB mod 2GiB == 1GiB"),
        *holds("values.text", 'assert "a" + "b" == "ab" and "a" != "b"', 'let t = "\\n\\t\\r\\"\\\\"\nassert t != "n"'),
        *holds("values.truth", "assert true and not false and (1 < 2) == true"),
        *holds("values.lists", "let a = [1, 2, 3,]\nassert a[0] == 1 and a[-1] == 3 and sum(a) == 6 and sum([]) == 0"),
        *holds("values.ranges", "assert sum(i for i in 3..5) == 12 and sum(i for i in 0..9 step 4) == 12"),
        *holds("values.ranges", "assert count(true for i in 5..4) == 0"),
        *holds("values.in", "assert 3 in 3..78 and 78 in 3..78 and not (79 in 3..78) and 7 in 3..78 step 4"),
        *holds("values.in", "assert not (8 in 3..78 step 4) and 2 in [1, 2] and 2 in (1 | 2) and 2GiB in 1GiB..3GiB"),
        *holds("values.choices", "let few = 1 | 2\nassert 2 in few\nscenario s on h = batch(few, 8 -> 8)"),
        *holds("values.if", "assert (if 1 < 2 then 3 else 1 / 0) == 3"),
        *holds("values.chains", "assert 1 <= 2 < 3 and not (1 <= 3 < 3)", search("require 1 <= count(ffn is noop) <= 2")),
        *holds("values.short-circuit", "assert not (false and 1 / 0 == 1) and (true or 1 / 0 == 1) and (false implies 1 / 0 == 1)"),
        *holds("values.short-circuit", search("for i in 0..3 { require i > 0 and layers[i - 1].ffn is noop implies layers[i].ffn is mlp }")),
        *holds("values.implies", "assert (true implies true) and (false implies true) and not (true implies false)"),
        *holds("values.spread", "assert sum(1, 2, [3, 4], 5) == 15 and max([1, 3], 2) == 3 and mean(1, 3) == 2"),
        *holds("values.spread", "assert sum(x for x in [1, 2]) == 3 and count(x > 1 for x in (1 | 2)) == 1 and any(x > 1 for x in 1..2)"),
        *holds("values.functions", "assert min(2, 1) == 1 and all(true, 1 < 2) and not any(false) and abs(-3GiB) == 3GiB"),
        *holds("values.functions", "assert floor(-1.5) == -2 and ceil(1.2) == 2 and round(2.5) == 3 and round(-2.5) == -2 and floor(2500ms) == 2s"),
        *holds("values.functions", "assert runs(true, false, true) == 2 and longest(true, true, false) == 2 and distinct(1, 2, 2) == 2", "assert runs() == longest() + distinct()"),
        *holds("let.value", "let a = gqa(kv_heads: 2) | noop\nspace v of p { let b = mlp(width: 50%)\n attention = a, ffn = b | noop }"),
        *holds("let.value", "let s = shape(family: llama, layers: 2, hidden: 8, heads: 2, head_dim: 4, intermediate: 8, vocab: 9)\nparent q = s"),
        *holds("fn.pure", "let k = 2\nfn f(n) = n * k\nassert f(3) == 6", "fn f(n) = if n == 0 then 0 else n + f(n - 1)\nassert f(9) == 45"),
        *holds("fn.arguments", "fn f(a, b) = a - b\nassert f(3, 1) == 2 and f(b: 1, a: 3) == 2 and f(3, b: 1) == 2"),
        *holds("assert.false", 'assert 1 == 1 because "it is"\nspace v of p { ffn = parent | noop, assert p.layers >= 1 }'),
        *holds("param.default", "param a: Ratio = 95%\nassert a == 95%", "param a: Ratio = 1.5x", "param a: Text = word\nassert a == \"word\""),
        *holds("param.words", "param m: fast | small = fast\nassert m == fast and small != m and m == \"fast\"", "param kl2: chat | kl = kl\nassert kl2 == kl and kl2 != chat"),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("values.literals", ("let a = .5", "E0001"), ("let a = 5q", "E0103")),
        *refused("values.units", ("let a = 4 GiB", "E0001"), ("let a = 4gib", "E0103")),
        *refused(
            "values.times",
            ("assert 2x == 2", "E0301"),
            (search("require chat.memory <= 0.6x + 1GiB"), "E0302"),
            (search("require 0.5x * chat.memory <= 1GiB"), "E0315"),
        ),
        *refused(
            "values.dimensions",
            ("assert 1GiB < 3s", "E0301"),
            ("let a = 1GiB + 3", "E0302"),
            ("assert chat.prompt == 128tok", "E0301"),
        ),
        *refused("values.division", ("let a = 1 / 0", "E0306"), ("let a = 1 mod 0", "E0306")),
        *refused("values.text", ('let a = "a" + 1', "E0303"), ('assert "a" < "b"', "E0303")),
        *refused("values.lists", ("let a = [1, 2][2]", "E0304"), ("let a = [1, 2][-3]", "E0304")),
        *refused("values.ranges", ("let a = 1..2GiB", "E0302"), ("let a = 0..4 step 0", "E0304")),
        *refused("values.implies", ("assert true implies true implies true", "E0001")),
        *refused("values.functions", ("let a = min()", "E0209"), ("let a = floor(1, 2)", "E0210"), ("let a = max(1, 1s)", "E0302")),
        *refused("values.spread", ("let a = (x for x in 1..2)", "E0001"), ("let a = sum(x for x in 3)", "E0303")),
        *refused("let.cycle", ("let a = b\nlet b = a", "E0214")),
        *refused("fn.arguments", ("fn f(a) = a\nlet x = f()", "E0210"), ("fn f(a) = a\nlet x = f(1, a: 2)", "E0208"), ("fn f(a) = a\nlet x = f(b: 2)", "E0204")),
        *refused("assert.false", ("assert 1 == 2", "E0221"), ("space v of p { ffn = parent, assert p.layers < 1 }", "E0221"), (search("assert 1 == 2"), "E0221")),
        *refused("assert.constant", (search("assert params <= 1M"), "E0307")),
        *refused("param.default", ("param a: Ratio", "E0218"), ("param a: Bytes = 3", "E0303"), ("param a: Count = 1.5", "E0303")),
        *refused("param.words", ("param m: fast | small = slow", "E0305"), ("param m: fast | small = fast\nassert m == slow", "E0305")),
        *refused("param.types", ("param a: Byte = 1GiB", "E0219"), ("param a: Colour = 1", "E0219")),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


@pytest.mark.states("values.dimensions")
def test_unlike_dimensions_are_named_with_a_literal_that_would_do(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, "assert 80GiB <= 78_000").diagnostics
    assert found.message == "`<=` compares Bytes with a plain number"
    assert "78GiB" in found.help
    program(tmp_path, "assert 80GiB >= 78GiB")


@pytest.mark.states("assert.false")
def test_a_false_assertion_shows_both_sides(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, 'let a = 1GiB\nassert a == chat.prompt * 1MiB because "so"').diagnostics
    assert found.label == "`a` is 1GiB, `chat.prompt * 1MiB` is 128MiB"
    assert found.notes == ("because so",)


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
    texts = []
    for text in (bare, bracketed):
        sink = Sink()
        texts.append(unparse(parse(f"let x = {text}\n", "t.pzl", sink)))
        assert not sink.items, text
    assert texts[0] == texts[1]


@pytest.mark.states("values.precedence")
@pytest.mark.parametrize("text", ["a implies b implies c", "a..b..c", "a -> b -> c"])
def test_what_does_not_chain(text: str) -> None:
    sink = Sink()
    parse(f"let x = {text}\n", "t.pzl", sink)
    assert sink.items
