"""Values of expressions without a search, and diagnostics of those beyond a limit."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import apply
from puzzledsl.base.units import parse_quantity
from puzzledsl.checker.context import MAX_CELLS
from puzzledsl.checker.expressions.numbers import plain
from puzzledsl.ir.nodes import Program
from tests.checker.programs import TINY, checked, lowered, mistakes

MOE = """\
parent p = shape(family: qwen3_moe, layers: 1, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, vocab: 256,
  experts: 16, top_k: 4, expert_width: 192)
space w of p { attention = parent, ffn = moe(experts: 8 | 4, top_k: 2, width: 50%) | mlp(width: 50%) | parent }
"""


def counted(folder: Path, text: str, condition: str) -> list[tuple[str, ...]]:
    """The alternatives that each `count` of a requirement counts."""
    program = lowered(
        folder, f"{text}search s of w {{\n  minimize params\n  require count({condition}) <= 1\n}}\n"
    )
    [requirement] = program.searches["s"].requirements
    return [term.term.alternatives for term in requirement.left.terms]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("moe", ("moe8k2w96", "moe4k2w96", "parent")),
        ("moe(experts: <= 8)", ("moe8k2w96", "moe4k2w96")),
        ("moe(width: >= 75%)", ("parent",)),
        ("mlp", ("mlp384",)),
        ("moe(experts: 8)", ("moe8k2w96",)),
        ("moe(experts: < 8)", ("moe4k2w96",)),
        ("moe(top_k: 2, width: 50%)", ("moe8k2w96", "moe4k2w96")),
        ("moe(top_k: 1)", ()),
        ("mlp(width: 50%)", ("mlp384",)),
        ("mlp(width: >= 96)", ("mlp384",)),
    ],
)
def test_patterns_look_at_experts(tmp_path: Path, pattern: str, names: tuple[str, ...]) -> None:
    assert sorted(*counted(tmp_path, MOE, f"ffn is {pattern}")) == sorted(names)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("let r = 1..2", (1, 2)),
        ("let r = 0..3 step 2", (0, 2)),
        ("let r = -2..3", (2, 3)),
        ("let r = [3, 0]", (0, 3)),
        ("let r = -1", (3,)),
    ],
)
def test_a_name_may_stand_for_layers(tmp_path: Path, text: str, layers: tuple[int, ...]) -> None:
    program = lowered(tmp_path, f"{TINY}{text}\nsearch s of w {{\n  minimize kl\n  require sum(layers[r].ffn.width) <= 9\n}}\n"
                      if len(layers) > 1 else
                      f"{TINY}{text}\nsearch s of w {{\n  minimize kl\n  require layers[r].ffn.width <= 9\n}}\n")  # fmt: skip
    [requirement] = program.searches["s"].requirements
    assert requirement.left.terms[0].term.layers == layers  # type: ignore[union-attr]


def test_a_layer_with_more_pairs_than_a_table_may_have_is_told(tmp_path: Path) -> None:
    """It is not said that a statement is about several layers."""
    widths = " | ".join(str(w) for w in range(1, 193))
    windows = " | ".join(str(w) for w in range(1, MAX_CELLS // 192 + 2))
    text = TINY.replace("kv_heads: 4 | 2 | 1", f"kv_heads: 2, window: {windows}").replace(
        "100% | 50%", widths
    )
    both = "layers[0].attention is noop and layers[0].ffn is noop"
    amounts = (
        f"count({both})",
        f"(if {both} then 1 else 2)",
        "layers[0].attention.kv_heads * layers[0].ffn.width",
    )
    for condition in (f"{amount} <= 1" for amount in amounts):
        found = checked(tmp_path, f"{text}search s of w {{\n  minimize kl\n  require {condition}\n}}\n")
        assert [d.message for d in found.diagnostics] == [
            f"the table of this layer is too large: at most {MAX_CELLS:,} pairs"
        ]


def test_a_chain_of_spaces_without_end_is_told(tmp_path: Path) -> None:
    chain = "".join(f"space s{i} of s{i - 1} {{ layers[0].ffn -= noop }}\n" for i in reversed(range(1, 200)))
    text = TINY.replace("space w of p", "space s0 of p").replace("of w", "of s0") + chain
    assert {code for code, _ in mistakes(tmp_path, text) if code.startswith("E")} == {"E0220"}


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(3), "3"),
        (Fraction(-5, 2), "-2.5"),
        (Fraction(1, 3), "0.333333"),
        (Fraction(1, 10**9), "1e-09"),
        (Fraction(3, 10**12), "3e-12"),
    ],
)
def test_a_plain_number_is_shown_as_it_can_be_written(number: Fraction, text: str) -> None:
    assert plain(number) == text
    assert abs(parse_quantity(text.removeprefix("-")).value - abs(number)) <= abs(number) / 10**5


def test_what_the_parser_lost_is_no_further_mistake_through_an_alias(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let kept = 3\nlet lost = = 4\n")
    text = 'use "lib.pzl" as lib\nlet a = lib.kept\nlet b = lib.lost\n'
    assert [code for code, _ in mistakes(tmp_path, text)] == ["E0001"]
    assert [code for code, _ in mistakes(tmp_path, text + "let c = lib.nothing\n")] == ["E0001", "E0206"]


def test_a_use_that_was_forgotten_is_written_before_the_first_line(tmp_path: Path) -> None:
    """Before the declarations and their comment, or before the first `use`: with it the program checks."""
    for text in (
        "## The card.\n## One of it.\nhardware h = h200(gpus: 1)\n",
        'use "std/hardware.pzl" (h100_sxm)\nhardware g = h100_sxm(gpus: 1)\nhardware h = h200(gpus: 1)\n',
        "# no doc comment\nhardware h = h200(gpus: 1)\n",
    ):
        [told] = checked(tmp_path, text).diagnostics
        mended = apply(text, told.fixes)
        assert mended.count("\n") == text.count("\n") + 1 and "h200)" in mended
        assert not checked(tmp_path, mended).diagnostics


@pytest.mark.parametrize("setting", ["fast +", "", "(", "slow"])
def test_a_setting_on_the_command_line_that_is_no_value(tmp_path: Path, setting: str) -> None:
    found = checked(
        tmp_path, "param mode: fast | small = fast\nparam most: Count = 3\n", mode=setting
    ).diagnostics
    assert len([d for d in found if d.severity == "error"]) == 1


def test_a_column_is_a_word_or_what_a_let_says(tmp_path: Path) -> None:
    columns = ("body", "other", '"own"')
    text = 'let body = "text"\nlet bad = 3\n'
    text += "".join(f'data d{i} = jsonl("a.jsonl", column: {c})\n' for i, c in enumerate(columns))
    data = lowered(tmp_path, text).data
    assert [data[f"d{i}"].source.column for i in range(3)] == ["text", "other", "own"]  # type: ignore[union-attr]
    assert ("E0303", 6) in mistakes(tmp_path, text + 'data e = jsonl("a.jsonl", column: bad)\n')


def test_an_artefact_of_another_format_is_not_read() -> None:
    whole = Program(source="a.pzl").model_dump(mode="json")
    assert Program.model_validate({**whole, "format_version": "1.9"}).source == "a.pzl"
    with pytest.raises(ValueError, match="format"):
        Program.model_validate({**whole, "format_version": "2.0"})
