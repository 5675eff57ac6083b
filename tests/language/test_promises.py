"""Promises of the checker: all mistakes at once, the same bytes always, no machine path, no hang."""

import json
from pathlib import Path

import pytest

from puzzledsl.checker.context import MAX_CELLS
from puzzledsl.checker.names.names import MAX_FILES
from puzzledsl.families.config import MAX_LAYERS
from tests.cases import more
from tests.checker.programs import chain
from tests.language.rules import SHAPE, codes, outcome, program, search, space


@pytest.mark.states("ir.paths")
def test_no_path_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f.pzl").write_text("hardware far = measured(device: cpu)\n")
    found = program(tmp_path, 'use "sub/f.pzl" (far)\nscenario s on far = batch(1, 8 -> 8)')
    assert (found.source, found.hardware["far"].where.file) == ("program.pzl", "sub/f.pzl")
    assert str(tmp_path) not in found.canonical_json()


@pytest.mark.states("ir.schema")
def test_the_published_schema_is_that_of_the_ir() -> None:
    from scripts.reference import ir_schema

    published = (Path(__file__).parents[2] / "docs" / "schema" / "ir.schema.json").read_text("utf-8")
    assert ir_schema() == json.loads(published)


@pytest.mark.states("limits.size", "limits.table")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"parent q = shape(family: llama, {SHAPE.replace('layers: 2', f'layers: {MAX_LAYERS + 1}')})", "E0304"),
        ("let a = sum(i for i in 0..20_000)", "E0220"),
        (search("for i in 0..20_000 { require layers[0].ffn is noop }"), "E0220"),
        (space(f"attention = gqa(kv_heads: {' | '.join(['1'] * 60)}, window: {' | '.join(map(str, range(1, 60)))})"), "E0220"),
        (search("let a = all(layers[i mod 4].ffn is noop for i in 0..99)\n require all(a or layers[0].ffn is noop for i in 0..99)"), "E0220"),
        ("let a = " + "(" * 101 + "1" + ")" * 101, "E0012"),
        ("fn f(n) = f(n)\nlet a = f(1)", "E0220"),
        (chain(60, "1/3", "{} / 1e60"), "E0220"),
        (chain(60, "1 | 2", "{} | {}"), "E0220"),
        (search(chain(60, "layers[0].ffn is noop", "{} implies {}") + "require a60"), "E0220"),
        (search(chain(60, "params <= 3", "{} and {}") + "require a60"), "E0220"),
        ("".join(f"let a{i} = a{i + 1} + 1\n" for i in range(600)) + "let a600 = 1\n", "E0220"),
        *more(("fn f(n) = if n <= 0 then 0 else f(n - 1) + f(n - 1)\nlet x = f(90)", "E0220")),
        ("let a = 1e60 * 1e60 * 1e60 * 1e60 * 1e60 * 1e60", "E0220"),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_too_much_is_a_diagnostic(tmp_path: Path, text: str, expected: str) -> None:
    assert set(codes(tmp_path, text).split()) == {expected}


@pytest.mark.states("limits.table")
def test_a_table_of_one_layer_has_an_end(tmp_path: Path) -> None:
    """A statement about too many pairs of one layer's alternatives is refused, and not as one about several layers."""
    windows, widths = (" | ".join(map(str, range(1, count))) for count in (MAX_CELLS // 192 + 2, 193))
    wide = space(
        f"attention = gqa(kv_heads: 2, window: {windows}) | noop, ffn = mlp(width: {widths}) | noop\n"
    )
    both = "layers[0].attention is noop and layers[0].ffn is noop"
    amounts = (
        f"count({both})",
        f"(if {both} then 1 else 2)",
        "layers[0].attention.kv_heads * layers[0].ffn.width",
    )
    for amount in amounts:
        found = outcome(
            tmp_path, f"{wide}\nsearch s of v {{ minimize params, require {amount} <= 1 }}"
        ).diagnostics
        errors = [d.message for d in found if d.severity == "error"]
        assert errors == [f"the table of this layer is too large: at most {MAX_CELLS:,} pairs"]


@pytest.mark.states("limits.table")
def test_files_have_an_end(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 5):
        (tmp_path / f"f{number}.pzl").write_text("let a = 1\n")
    uses = "\n".join(f'use "f{number}.pzl" as f{number}' for number in range(MAX_FILES + 5))
    assert set(codes(tmp_path, uses).split()) == {"E0220"}
