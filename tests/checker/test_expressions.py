"""Values of expressions without a search, and diagnostics of those beyond a limit."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import apply
from puzzledsl.base.units import parse_quantity
from puzzledsl.checker.expressions.numbers import plain
from puzzledsl.ir.nodes import Program
from tests.checker.programs import TINY, checked, lowered, mistakes


@pytest.mark.parametrize(
    ("value", "layers"),
    [("1..2", (1, 2)), ("0..3 step 2", (0, 2)), ("-2..3", (2, 3)), ("[3, 0]", (0, 3)), ("-1", (3,))],
)
def test_a_name_may_stand_for_layers(tmp_path: Path, value: str, layers: tuple[int, ...]) -> None:
    width = "sum(layers[r].ffn.width)" if len(layers) > 1 else "layers[r].ffn.width"
    text = f"{TINY}let r = {value}\nsearch s of w {{\n  minimize kl\n  require {width} <= 9\n}}\n"
    [requirement] = lowered(tmp_path, text).searches["s"].requirements
    assert requirement.left.terms[0].term.layers == layers  # type: ignore[union-attr]


def test_a_figure_compared_with_itself_decides_nothing(tmp_path: Path) -> None:
    found = checked(tmp_path, TINY + "search s of w { minimize kl, require params + 1M < params }")
    assert "does not depend on the child: it is always false" in str([d.message for d in found.diagnostics])


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


@pytest.mark.parametrize("given", ["1 +", "", "x = 3", "3\nlet y = 4", "}", "nothing", "layers[0]"])
def test_a_setting_on_the_command_line_that_is_no_value(tmp_path: Path, given: str) -> None:
    for text in ("param x: Ratio = 95%\n", "param x: fast | small = fast\n"):
        found = checked(tmp_path, text, x=given)
        assert found.program is None
        assert len([d for d in found.diagnostics if d.severity == "error"]) == 1


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
