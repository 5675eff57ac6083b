from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    FLOP_PER_S,
    TIME,
    TOK_PER_S,
    UNITS,
    BadLiteral,
    Dimension,
    Quantity,
    format_quantity,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("78_000", 78_000, COUNT),
        ("4Ki", 4096, COUNT),
        ("51.5B", 51_500_000_000, COUNT),
        ("80GiB", 80 * 2**30, BYTES),
        ("80GB", 80 * 10**9, BYTES),
        ("5min", 300, TIME),
        ("30us", Fraction(30, 10**6), TIME),
        ("3.35TB/s", 3_350_000_000_000, BYTES_PER_S),
        ("989 TFLOP/s", 989 * 10**12, FLOP_PER_S),
        ("200 tok/s", 200, TOK_PER_S),
        ("25%", Fraction(1, 4), COUNT),
        ("2.17x", Fraction(217, 100), COUNT),
        ("1e-4", Fraction(1, 10**4), COUNT),
    ],
)
def test_literals(text: str, value: Fraction, dimension: Dimension) -> None:
    quantity = parse_quantity(text)
    assert (quantity.value, quantity.dimension) == (value, dimension)


def test_forms() -> None:
    assert [parse_quantity(t).form for t in ("1", "1%", "1x")] == ["plain", "percent", "times"]


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("80gib", "write `80GiB`"),
        ("7b", "billions are written `7B`"),
        ("3K", "thousands are `3k`, 1024s are `3Ki`"),
        ("30sec", "did you mean `30s`?"),
        ("10TB/min", "did you mean `10TB/s`?"),
        ("7q", "units: "),
        ("1e99", "numbers go up to 1e60"),
        ("1" * 300, "numbers go up to 1e60"),
        ("x", ""),
    ],
)
def test_bad_literals_say_what_would_work(text: str, help: str) -> None:
    with pytest.raises(BadLiteral) as error:
        parse_quantity(text)
    assert error.value.help.startswith(help)


@given(st.integers(1, 9999), st.sampled_from([u for u in UNITS if "FLOP" not in u]))
def test_what_is_shown_can_be_written(number: int, unit: str) -> None:
    quantity = parse_quantity(f"{number}{unit}")
    if quantity.dimension.name == "Tokens":
        return  # a count of tokens is written without a unit
    again = parse_quantity(format_quantity(quantity.value, quantity.dimension))
    assert again.dimension == quantity.dimension
    assert abs(again.value - quantity.value) <= quantity.value / 1000


@given(st.fractions(min_value=0, max_value=10**15), st.sampled_from([BYTES, TIME, COUNT, TOK_PER_S]))
def test_any_value_can_be_shown(value: Fraction, dimension: Dimension) -> None:
    assert format_quantity(value, dimension)


def test_dimensions_multiply() -> None:
    assert BYTES / TIME == BYTES_PER_S
    assert BYTES_PER_S * TIME == BYTES
    assert (BYTES * BYTES).name == "byte^2"
    assert (COUNT / TIME).name == "1/s"
    assert str(Quantity(Fraction(80 * 2**30), BYTES)) == "80GiB"
    assert str(Quantity(Fraction(1, 4), COUNT, "percent")) == "25%"
