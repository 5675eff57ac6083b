"""What the checker promises: all mistakes at once, the same bytes always, no machine path, no hang."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from puzzledsl.checker.context import MAX_CELLS, MAX_FORMULA, MAX_INSTANCES, MAX_OPTIONS
from puzzledsl.checker.names.names import MAX_FILES
from puzzledsl.families.config import MAX_LAYERS
from tests.language.rules import codes, outcome, program, search


@pytest.mark.states("check.all")
def test_all_mistakes_in_one_run(tmp_path: Path) -> None:
    text = "let a = 1GiB + 3\nserch t of w { minimize kl }\nlet b = chat.memry\n" + search(
        "require kl <= 3s\n require layers[9].ffn is noop"
    )
    found = outcome(tmp_path, text).diagnostics
    assert [d.code for d in found] == ["E0302", "E0101", "E0206", "E0301", "E0401"]
    assert [d.span.line for d in found if d.span] == [1, 2, 3, 6, 7]
    assert all(d.help for d in found)


@pytest.mark.states("check.program")
def test_errors_give_no_program_and_warnings_do(tmp_path: Path) -> None:
    warned = outcome(tmp_path, "space v of w { layers[0].ffn |= noop }")
    assert [d.severity for d in warned.diagnostics] == ["warning"] and warned.program is not None
    assert outcome(tmp_path, "let a = nothing").program is None


@pytest.mark.states("check.warnings")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (search("let a = 1"), "W0201"),
        ("space v of p { ffn = noop | noop }", "W0401"),
        ("space v of w { layers[0].ffn |= noop }", "W0412"),
        (search("", goal="maximize kl"), "W0316"),
        (search("require chat.throughput <= 1.7x"), "W0304"),
    ],
)
def test_what_is_likely_a_slip_is_a_warning(tmp_path: Path, text: str, code: str) -> None:
    found = outcome(tmp_path, text)
    assert code in [d.code for d in found.diagnostics]
    assert found.program is not None


@pytest.mark.parametrize(
    ("rule", "requirements", "expected"),
    [
        ("direction", "require chat.throughput <= 1.7x", "W0304"),
        ("direction", "require chat.throughput < 1x", ""),
        ("direction", "require chat.memory >= 1x\n require params > 0.5x", "W0304 W0304"),
        ("direction", "require chat.latency >= 1.5x\n require chat.throughput >= 1.7x\n require kl >= 0.5x", ""),
        ("direction", "require chat.throughput <= 1.7x\n require chat.throughput >= 1.2x", ""),
    ],
)  # fmt: skip
@pytest.mark.states("check.direction")
def test_bounds_that_are_likely_slips(tmp_path: Path, rule: str, requirements: str, expected: str) -> None:
    found = outcome(tmp_path, search(requirements)).diagnostics
    assert " ".join(d.code for d in found) == expected, rule


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


SHAPE = "heads: 2, head_dim: 2, hidden: 4, intermediate: 4096, vocab: 4"


@pytest.mark.states("limits.size", "limits.table")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"parent q = shape(family: llama, layers: {MAX_LAYERS + 1}, {SHAPE})", "E0304"),
        ("let a = sum(i for i in 0..20_000)", "E0220"),
        (search("for i in 0..20_000 { require layers[0].ffn is noop }"), "E0220"),
        ("space v of p { attention = gqa(kv_heads: " + " | ".join(["1"] * 60) + ", window: " + " | ".join(map(str, range(1, 60))) + ") }", "E0220"),
        (search("require all(layers[i mod 4].ffn is noop and layers[0].ffn is noop for i in 0..9_999)"), "E0220"),
        ("let a = " + "(" * 101 + "1" + ")" * 101, "E0012"),
        ("fn f(n) = f(n)\nlet a = f(1)", "E0220"),
        ("let a = 1e60 * 1e60 * 1e60 * 1e60 * 1e60 * 1e60", "E0220"),
    ],
    ids=range(8),
)  # fmt: skip
def test_too_much_is_a_diagnostic(tmp_path: Path, text: str, expected: str) -> None:
    assert set(codes(tmp_path, text).split()) == {expected}


@pytest.mark.states("limits.table")
def test_a_table_of_one_layer_has_an_end(tmp_path: Path) -> None:
    wide = "parent q = shape(family: llama, layers: 2, heads: 240, kv_heads: 120, head_dim: 2, hidden: 480, intermediate: 4096, vocab: 4)\n"
    heads = " | ".join(f"{2**k}Ki" for k in range(1, 12))
    text = (
        wide
        + f"space v of q {{ attention = gqa(kv_heads: 40 | 20 | 10 | 8 | 5 | 4 | 2 | 1, window: {heads}), "
        "ffn = mlp(width: " + " | ".join(map(str, range(1, 200))) + ") }\n"
        "search s of v { minimize layers[0].attention.kv_heads * layers[0].ffn.width }"
    )
    assert MAX_CELLS < 8 * 11 * 199
    assert codes(tmp_path, text) == "E0220"


@pytest.mark.states("limits.table")
def test_files_have_an_end(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 5):
        (tmp_path / f"f{number}.pzl").write_text("let a = 1\n")
    uses = "\n".join(f'use "f{number}.pzl" as f{number}' for number in range(MAX_FILES + 5))
    assert set(codes(tmp_path, uses).split()) == {"E0220"}
    assert (MAX_FORMULA, MAX_INSTANCES, MAX_OPTIONS) == (10_000, 20_000, 2_000)
