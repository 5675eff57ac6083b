from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.units import (
    BYTES,
    BYTES_PER_S,
    COUNT,
    FLOP_PER_S,
    FLOPS,
    TIME,
    TOK_PER_S,
    TOKENS,
    UNITS,
    BadLiteral,
    Dimension,
    Quantity,
    format_quantity,
    parse_quantity,
)
from tests.goldens import assert_text


@given(st.integers(1, 9999), st.sampled_from([u for u in UNITS if "FLOP" not in u]))
def test_what_is_shown_can_be_written(number: int, unit: str) -> None:
    quantity = parse_quantity(f"{number}{unit}")
    if quantity.dimension.name == "Tokens":
        return  # a count of tokens is written without a unit
    again = parse_quantity(format_quantity(quantity.value, quantity.dimension))
    assert again.dimension == quantity.dimension
    assert abs(again.value - quantity.value) <= quantity.value / 1000


_FACTORS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        *((f"3{p}", 3 * s, COUNT) for p, s in {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}.items()),
        *((f"3{p}i", 3 * 1024**n, COUNT) for n, p in enumerate("KMGT", start=1)),
        *((f"3{p}iB", 3 * 1024**n, BYTES) for n, p in enumerate("KMGT", start=1)),
        *((f"3{p}B", 3 * s, BYTES) for p, s in _FACTORS.items()),
        *((f"3{p}B/s", 3 * s, BYTES_PER_S) for p, s in _FACTORS.items()),
        *((f"3{p}FLOP", 3 * s, FLOPS) for p, s in _FACTORS.items()),
        *((f"3{p}FLOP/s", 3 * s, FLOP_PER_S) for p, s in _FACTORS.items()),
        *((f"3{u}", Fraction(3, 10**6), TIME) for u in ("us", "µs")),
        ("3ms", Fraction(3, 10**3), TIME),
        ("3s", 3, TIME),
        ("3min", 180, TIME),
        ("3h", 10800, TIME),
        ("3tok", 3, TOKENS),
        ("3tok/s", 3, TOK_PER_S),
        ("3ktok/s", 3000, TOK_PER_S),
        ("3", 3, COUNT),
        (" 1_000.5 GiB ", Fraction(10005 * 2**30, 10), BYTES),
        ("1.5E+3", 1500, COUNT),
        ("1__0_", 10, COUNT),
        ("1e-4", Fraction(1, 10**4), COUNT),
        ("1" * 200, int("1" * 200), COUNT),
        ("1e60", 10**60, COUNT),
        ("1e-60", Fraction(1, 10**60), COUNT),
    ],
)
def test_every_unit_is_what_the_reference_says(text: str, value: Fraction, dimension: Dimension) -> None:
    assert parse_quantity(text) == Quantity(Fraction(value), dimension)


DIMENSIONS = [
    COUNT, BYTES, BYTES_PER_S * TIME, TIME, TOKENS, FLOPS, BYTES / TIME, FLOPS / TIME, TOKENS / TIME, BYTES * TIME,
    BYTES * BYTES / TIME / TIME, COUNT / TIME / TIME, FLOPS / BYTES / TOKENS, TOKENS * FLOPS / BYTES,
]  # fmt: skip
MICRO = Fraction(1, 10**6)
SHOWN: dict[Dimension, list[Fraction | int]] = {
    BYTES: [0, 512, 2**19, 2**20, 2**39, 2**40, 2**51],
    TIME: [0, MICRO / 2, MICRO * 500, MICRO * 1000, 1, 7200],
    COUNT: [0, Fraction(1, 4), 99_999, 100_000, 500_000, 10**6, 10**12],
    BYTES_PER_S: [500, 10**9],
    FLOP_PER_S: [10**9],
    FLOPS: [10**12],
    TOK_PER_S: [10**12 - 1, 10**12, Fraction(1, 3)],
    BYTES * BYTES: [3],
    TOKENS: [3],
}
"""From each unit up, and just below it."""
BAD = [
    "x", "7b", "7K", "80gib", "5TOK/S", "5m", "5sec", "5GB/sec", "5GBs", "1O0MiB", "1l%", "10Mtok", "7Kitokens",
    "1_200 req/min", "100 tok/min", "300 req/m", "2 tokens per second", "5percent", "5kitoks", "2/s", "12Oq", "5q",
    "1e61", "1e-61", "1" * 201,
]  # fmt: skip


def test_dimensions_amounts_and_bad_literals_are_those_of_the_golden() -> None:
    """An amount is shown in the largest unit that it reaches."""
    lines = [dimension.name for dimension in DIMENSIONS]
    for dimension, values in SHOWN.items():
        for value in values:
            shown = format_quantity(Fraction(value), dimension)
            lines.append(f"{value} {dimension.name}: {shown}")
            assert format_quantity(-Fraction(value), dimension) == ("-" if value else "") + shown
    for text in BAD:
        with pytest.raises(BadLiteral) as error:
            parse_quantity(text)
        lines.append(f"{text}: {error.value}; {error.value.help}; {error.value.meant}")
    assert_text(Path(__file__).with_name("units.txt"), "\n".join(lines) + "\n")


@pytest.mark.parametrize("dimension", [BYTES, TIME, COUNT, BYTES_PER_S, FLOPS, TOK_PER_S, TOKENS])
@pytest.mark.parametrize("value", [Fraction(1, 3 * 10**7), Fraction(2, 3), Fraction(10**11, 7)])
def test_as_many_digits_are_shown_as_asked_for(dimension: Dimension, value: Fraction) -> None:
    for digits in (2, 3, 6):
        shown = format_quantity(value, dimension, digits)
        number = shown.split()[0].rstrip("BiKMGTkusmFLOP/")
        assert number == f"{float(number):.{digits}g}"
        assert len(number.split("e")[0].strip("0.").replace(".", "")) <= digits
    assert format_quantity(value, dimension) == format_quantity(value, dimension, 4)


def test_forms_are_shown_as_they_were_written() -> None:
    assert [parse_quantity(t).form for t in ("1", "1%", "1x")] == ["plain", "percent", "times"]
    for text in ("25%", "0.5%", "2.17x", "0.25x", "3x", "80GiB", "200 tok/s"):
        assert str(parse_quantity(text)) == text
    assert [str(parse_quantity(t)) for t in ("33.3333%", "2.17349x")] == ["33.33%", "2.173x"]
